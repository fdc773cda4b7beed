use std::sync::Arc;
use std::time::Instant;

use super::error::SignError;
use super::signing_key::SigningKey;
use super::slots::QueueSlot;
use super::worker_pool::WorkerPool;
use crate::fair_queue::Share;

/// The right to one signature: a reserved slot in the token's queue, released when it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped releases its queue slot"]
pub struct Permit {
    workers: Arc<WorkerPool>,
    key: Arc<SigningKey>,
    queue_slot: QueueSlot,
}

impl Permit {
    /// # Errors
    /// [`SignError::TooLate`] when what waits takes longer than a request may;
    /// [`SignError::Busy`] when the queue is full, [`SignError::ShareInUse`] when what is left of it is
    /// for others; [`SignError::Unavailable`] when the token is not ready, or every worker hangs.
    pub(super) fn reserve(
        workers: &Arc<WorkerPool>,
        key: &Arc<SigningKey>,
        share: Share,
    ) -> Result<Self, SignError> {
        let queue_slot = workers.reserve(share)?;
        if !workers.inner.is_ready() {
            return Err(SignError::Unavailable(workers.inner.state().to_string()));
        }
        Ok(Self {
            workers: Arc::clone(workers),
            key: Arc::clone(key),
            queue_slot,
        })
    }

    /// Signs `message`: the result is an ECDSA-Sig-Value in DER, or a PKCS#1 v1.5 signature. Once a
    /// worker has the request it returns when the worker does, even after `deadline`: the caller sets its own
    /// time limit. When the future is dropped, or `deadline` passes, before a worker takes the request, nothing
    /// is signed, and its slot is free.
    ///
    /// # Errors
    /// Never [`SignError::Busy`]. [`SignError::Expired`] when `deadline` passed before a worker took
    /// the request. Only after [`SignError::Unknown`] a signature may exist.
    pub async fn sign(
        self,
        message: impl AsRef<[u8]>,
        deadline: Instant,
    ) -> Result<Vec<u8>, SignError> {
        let Self {
            workers,
            key,
            queue_slot,
        } = self;
        workers
            .sign(&key, message.as_ref(), deadline, false, queue_slot)
            .await
    }
}
