//! The tokens that hold one key, and which of them signs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::error::SignError;
use super::signing_key::SigningKey;
use super::slots::QueueSlot;
use super::worker::Busy;
use super::worker_pool::WorkerPool;
use crate::fair_queue::Share;

/// A key in one token.
#[derive(Clone, Debug)]
pub(super) struct KeyCopy {
    pub(super) workers: Arc<WorkerPool>,
    pub(super) key: Arc<SigningKey>,
}

/// A place in the queue of the token that has a copy.
#[derive(Debug)]
pub(super) struct Reservation {
    copy: KeyCopy,
    queue_slot: QueueSlot,
    busy: Busy,
}

impl KeyCopy {
    /// # Errors
    /// [`SignError::TooLate`] when what waits takes longer than a request may;
    /// [`SignError::Busy`] when the queue is full, [`SignError::ShareInUse`] when what is left of it is
    /// for others; [`SignError::Unavailable`] when the token is not ready, or every worker hangs.
    pub(super) fn reserve(self, share: Share) -> Result<Reservation, SignError> {
        let queue_slot = self.workers.reserve(share)?;
        if !self.workers.inner.is_ready() {
            let state = self.workers.inner.state();
            return Err(SignError::Unavailable(state.to_string()));
        }
        Ok(Reservation {
            busy: self.workers.busy(),
            queue_slot,
            copy: self,
        })
    }

    /// Tokens that are ready come first, then the one that would answer first.
    fn rank(&self) -> (bool, Duration) {
        (!self.workers.inner.is_ready(), self.workers.expected_time())
    }
}

impl Reservation {
    pub(super) fn share(&self) -> Share {
        self.queue_slot.share()
    }

    pub(super) async fn sign(
        self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, SignError> {
        let Self {
            copy,
            queue_slot,
            busy,
        } = self;
        let place = (queue_slot, busy);
        copy.workers
            .sign(&copy.key, message, deadline, false, place)
            .await
    }
}

/// All copies that are open, and where there should be others.
#[derive(Debug)]
pub(super) struct Copies {
    open: ArcSwap<Vec<KeyCopy>>,
    /// Why it is not open there, by the token's name.
    missing: Mutex<BTreeMap<String, String>>,
}

impl Copies {
    pub(super) fn new(first: KeyCopy) -> Self {
        Self {
            open: ArcSwap::from_pointee(vec![first]),
            missing: Mutex::default(),
        }
    }

    pub(super) fn add(&self, copies: &Self) {
        for copy in copies.open.load().iter() {
            let name = &copy.workers.inner.name;
            self.open.rcu(|open| {
                let others = open
                    .iter()
                    .filter(|known| known.workers.inner.name != *name);
                others.cloned().chain([copy.clone()]).collect::<Vec<_>>()
            });
            let was_missing = self.lock().remove(name).is_some();
            if was_missing {
                tracing::info!(token = name, "the token signs with its copy of the key too");
            }
        }
    }

    /// Says in the log why the key is not open in a token, when that has changed.
    pub(super) fn is_missing_in(&self, token: &str, reason: String) {
        let before = self.lock().insert(token.to_owned(), reason.clone());
        if before.as_ref() != Some(&reason) {
            tracing::warn!(
                token,
                reason,
                "a token that should have the same keys does not sign with this one"
            );
        }
    }

    pub(super) fn missing(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The one that should sign first.
    pub(super) fn ranked(&self) -> Vec<KeyCopy> {
        let open = self.open.load();
        let mut copies: Vec<KeyCopy> = open.iter().cloned().collect();
        if copies.len() > 1 {
            copies.sort_by_cached_key(KeyCopy::rank);
        }
        copies
    }

    /// The first for which `call` succeeds, with the others; of the errors the one that says most of the load.
    pub(super) fn first<T>(
        &self,
        call: impl Fn(KeyCopy) -> Result<T, SignError>,
    ) -> Result<(T, Vec<KeyCopy>), SignError> {
        let copies = self.ranked();
        let mut refused: Option<SignError> = None;
        for (position, copy) in copies.iter().enumerate() {
            match call(copy.clone()) {
                Ok(done) => {
                    let mut others = copies;
                    others.remove(position);
                    return Ok((done, others));
                }
                Err(error) => {
                    let keep = refused.filter(|known| !matches!(known, SignError::Unavailable(_)));
                    refused = Some(keep.unwrap_or(error));
                }
            }
        }
        Err(refused.unwrap_or_else(|| SignError::Unavailable("no token has the key".to_owned())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
