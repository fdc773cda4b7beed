//! A key that is open for signing, and a place in its token's queue.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::error::{HsmError, SignError};
use super::keys::SigningKey;
use super::token::{Probe, Token};
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

/// A key that is open for signing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Key(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    token: Arc<Token>,
    key: Arc<SigningKey>,
    label: String,
}

impl Key {
    pub(super) fn new(token: Arc<Token>, key: Arc<SigningKey>, label: String) -> Self {
        Self(Arc::new(Opened { token, key, label }))
    }

    /// Its public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.key.public
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.0.key.public.kind()
    }

    /// What it signs with.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.0.key.algorithm
    }

    /// CKA_ID.
    pub fn id(&self) -> &[u8] {
        &self.0.key.id
    }

    /// CKA_LABEL.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The token it lies in.
    pub fn token(&self) -> &Arc<Token> {
        &self.0.token
    }

    /// Takes a place in the token's queue, before anything is recorded.
    ///
    /// # Errors
    /// [`SignError::Busy`] when the queue is full; [`SignError::Unavailable`] when the token is not
    /// ready, or every worker has hung for longer than any caller waits.
    pub fn reserve(&self) -> Result<Permit, SignError> {
        let token = &self.0.token;
        let place = token.place()?;
        if !token.shared.is_ready() {
            return Err(SignError::Unavailable(token.state().to_string()));
        }
        if token.shared.is_stuck() {
            return Err(SignError::Unavailable(
                "every worker waits for an answer from the token".into(),
            ));
        }
        Ok(Permit {
            key: self.clone(),
            place,
        })
    }

    /// Like [`Token::probe`], with this key.
    ///
    /// # Errors
    /// As there.
    pub async fn probe(&self) -> Result<Probe, HsmError> {
        self.0.token.must_be_ready()?;
        self.0.token.probe_with(Arc::clone(&self.0.key)).await
    }
}

/// A place in a token's queue. Dropped, it is free again.
#[derive(Debug)]
#[must_use = "a place that is not used is dropped"]
pub struct Permit {
    key: Key,
    place: OwnedSemaphorePermit,
}

impl Permit {
    /// Signs `message`: ECDSA-Sig-Value in DER, or PKCS#1 v1.5. It answers when the worker does, even
    /// if that is late: the time-out is the caller's own. A future that is dropped while the
    /// request waits means that it is not signed.
    ///
    /// # Errors
    /// Never [`SignError::Busy`]. [`SignError::Expired`] when `deadline` passed before the token was
    /// asked; only [`SignError::Unknown`] leaves open whether a signature exists.
    pub async fn sign(
        self,
        message: impl AsRef<[u8]>,
        deadline: Instant,
    ) -> Result<Vec<u8>, SignError> {
        let Self { key, place } = self;
        key.0
            .token
            .enqueue(&key.0.key, message.as_ref(), deadline, false, place)
            .await
    }
}
