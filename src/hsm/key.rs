use std::sync::Arc;

use super::copies::{Copies, KeyCopy};
use super::error::{HsmError, SignError};
use super::permit::Permit;
use super::signing_key::SigningKey;
use super::worker_pool::{Probe, WorkerPool};
use crate::fair_queue::Share;
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

/// A private key, open for signing in a token, or in several that have it.
#[derive(Clone, Debug)]
pub struct Key {
    key: Arc<SigningKey>,
    label: Arc<str>,
    copies: Arc<Copies>,
}

impl Key {
    pub(super) fn new(workers: Arc<WorkerPool>, key: Arc<SigningKey>, label: &str) -> Self {
        let first = KeyCopy {
            workers,
            key: Arc::clone(&key),
        };
        Self {
            key,
            label: label.into(),
            copies: Arc::new(Copies::new(first)),
        }
    }

    /// The same key in another token.
    pub(super) fn join(&self, other: &Self) {
        self.copies.add(&other.copies);
    }

    /// It should be in that token too.
    pub(super) fn is_missing_in(&self, token: &str, reason: String) {
        self.copies.is_missing_in(token, reason);
    }

    /// The tokens that should have it too.
    pub(super) fn missing(&self) -> Vec<String> {
        self.copies.missing()
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

    /// Whether a token with it takes requests now; they may be away, or their logins lost.
    pub fn is_ready(&self) -> bool {
        let copies = self.copies.ranked();
        copies.iter().any(|copy| copy.workers.inner.is_ready())
    }

    /// Reserves a slot in the queue of the token that would sign first. Called before anything is recorded.
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
        Permit::reserve(&self.copies, share)
    }

    /// Whether the queue has room for a share now; nothing is reserved.
    ///
    /// # Errors
    /// [`SignError::Busy`], [`SignError::ShareInUse`].
    pub fn has_room_for(&self, share: Share) -> Result<(), SignError> {
        let looked = self.copies.first(|copy| copy.workers.look(share));
        looked.map(|((), _)| ())
    }

    /// Makes and verifies a test signature with this key.
    ///
    /// # Errors
    /// Those of [`Token::probe`](super::Token::probe), which tests the whole token.
    pub async fn probe(&self) -> Result<Probe, HsmError> {
        match self.copies.ranked().first() {
            Some(copy) => copy.workers.self_test(&copy.key).await,
            None => Ok(Probe { signing_time: None }),
        }
    }
}
