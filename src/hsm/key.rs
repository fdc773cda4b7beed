use std::sync::Arc;

use super::error::{HsmError, SignError};
use super::permit::Permit;
use super::signing_key::SigningKey;
use super::worker_pool::{Probe, WorkerPool};
use crate::fair_queue::Share;
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

/// A private key in a token, open for signing.
#[derive(Clone, Debug)]
pub struct Key {
    workers: Arc<WorkerPool>,
    key: Arc<SigningKey>,
    label: Arc<str>,
}

impl Key {
    pub(super) fn new(workers: Arc<WorkerPool>, key: Arc<SigningKey>, label: &str) -> Self {
        Self {
            workers,
            key,
            label: label.into(),
        }
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.key.public
    }

    pub fn kind(&self) -> KeyKind {
        self.key.public.kind()
    }

    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm
    }

    /// CKA_ID.
    pub fn id(&self) -> &[u8] {
        &self.key.id
    }

    /// CKA_LABEL.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether the token was ready when it was last used: it is not asked.
    pub fn is_ready(&self) -> bool {
        self.workers.inner.is_ready()
    }

    /// Reserves a slot in the token's queue. Called before anything is recorded.
    ///
    /// # Errors
    /// [`SignError::Busy`] when the queue is full; [`SignError::Unavailable`] when the token is not
    /// ready, or every worker has been in C_Sign for twice the time limit of a request.
    pub fn reserve(&self) -> Result<Permit, SignError> {
        self.reserve_for(Share::own("signature"))
    }

    /// The same for a caller: the queue serves by turns, and no share may fill it.
    ///
    /// # Errors
    /// Also [`SignError::ShareInUse`].
    pub fn reserve_for(&self, share: Share) -> Result<Permit, SignError> {
        Permit::reserve(&self.workers, &self.key, share)
    }

    /// Whether the queue has room for a share now; nothing is reserved.
    ///
    /// # Errors
    /// [`SignError::Busy`], [`SignError::ShareInUse`].
    pub fn has_room_for(&self, share: Share) -> Result<(), SignError> {
        self.workers.look(share)
    }

    /// Makes and verifies a test signature with this key.
    ///
    /// # Errors
    /// Those of [`Token::probe`](super::Token::probe), which tests the whole token.
    pub async fn probe(&self) -> Result<Probe, HsmError> {
        self.workers.self_test(&self.key).await
    }
}
