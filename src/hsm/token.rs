use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::data_object;
use super::destroy::destroy;
use super::error::HsmError;
use super::generate::{NewKey, generate, new_id};
use super::key::Key;
use super::key_name::KeyName;
use super::keys::{self, KeyReport};
use super::mechanism;
use super::signing_key::SigningKey;
use super::token_info::TokenInfo;
use super::token_inner::TokenInner;
use super::token_state::TokenState;
use super::worker_pool::{Probe, WorkerPool};
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey};

/// A large RSA key takes long.
const GENERATION_TIMEOUT: Duration = Duration::from_secs(120);

/// A token in use: a thread that holds the login, and workers that sign.
pub struct Token {
    workers: Arc<WorkerPool>,
}

impl Token {
    pub(super) fn start(inner: TokenInner, workers: usize) -> Result<Self, HsmError> {
        let workers = Arc::new(WorkerPool::start(inner, workers)?);
        Ok(Self { workers })
    }

    fn inner(&self) -> &TokenInner {
        &self.workers.inner
    }

    /// As `[hsm.tokens.NAME]` calls it.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// The last known state: the token is not asked.
    pub fn state(&self) -> TokenState {
        self.inner().state()
    }

    pub fn watch(&self) -> watch::Receiver<TokenState> {
        self.inner().watch()
    }

    /// Waits until the token is ready.
    ///
    /// # Errors
    /// [`HsmError::NotReady`] as soon as the token refuses the PIN, or after `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<(), HsmError> {
        let mut states = self.watch();
        let decided =
            states.wait_for(|state| *state == TokenState::Ready || state.needs_operator());
        let _ = tokio::time::timeout(limit, decided).await;
        self.inner().require_ready()
    }

    /// As of the last login.
    pub fn info(&self) -> Option<TokenInfo> {
        self.inner().info()
    }

    /// Signatures since the start, without test signatures.
    pub fn signatures(&self) -> u64 {
        self.inner().signatures.load(Ordering::Relaxed)
    }

    /// Test signatures since the start.
    pub fn test_signatures(&self) -> u64 {
        self.inner().test_signatures.load(Ordering::Relaxed)
    }

    /// Failed calls of C_Sign after which a signature may exist. The token's own log shows at least
    /// `signatures + test_signatures` signatures, and at most these more.
    pub fn unconfirmed_signatures(&self) -> u64 {
        self.inner().unconfirmed_signatures.load(Ordering::Relaxed)
    }

    /// How often the module was finalized and initialized again because this token needed it.
    pub fn module_restarts(&self) -> u64 {
        self.inner().module_restarts.load(Ordering::Relaxed)
    }

    /// How many requests wait for a worker.
    pub fn queued(&self) -> usize {
        self.workers.queued()
    }

    /// Generates a key pair in the token: sensitive, not extractable, for signing only. Without `id`
    /// the key gets a random CKA_ID.
    ///
    /// # Errors
    /// [`HsmError::KeyExists`] when the CKA_ID is in use, [`HsmError::UnsupportedKey`]; and when the
    /// token is not ready, busy or refuses. After [`HsmError::Timeout`] a key may exist.
    pub async fn generate(
        &self,
        kind: KeyKind,
        label: &str,
        id: Option<&[u8]>,
    ) -> Result<NewKey, HsmError> {
        if mechanism::generation(kind).is_none() {
            return Err(HsmError::UnsupportedKey { kind });
        }
        let (label, id) = (label.to_owned(), id.map(<[u8]>::to_vec));
        let work = move |inner: &TokenInner, _: &_| {
            // The login is the process's, so this session is logged in as well.
            let session = inner
                .slot()
                .and_then(|slot| inner.module.writable_session(slot))
                .map_err(|fault| inner.call_error(fault))?;
            generate(inner, &session, kind, &label, id.as_deref())
        };
        self.workers
            .call("to generate a key", GENERATION_TIMEOUT, false, work)
            .await
    }

    /// Destroys the key pair with the public key `expected`; `id` is its CKA_ID.
    ///
    /// # Errors
    /// [`HsmError::KeyInUse`] when it is open for signing, [`HsmError::NoSuchKey`]; and when the token is
    /// not ready, busy or refuses.
    pub async fn destroy(&self, id: &[u8], expected: &PublicKey) -> Result<(), HsmError> {
        let (id, expected) = (id.to_vec(), expected.clone());
        let work = move |inner: &TokenInner, _: &_| {
            let session = inner
                .slot()
                .and_then(|slot| inner.module.writable_session(slot))
                .map_err(|fault| inner.call_error(fault))?;
            destroy(inner, &session, &id, &expected)
        };
        self.workers
            .call("to destroy a key", GENERATION_TIMEOUT, false, work)
            .await
    }

    /// A random CKA_ID that no key has, not even cut to two octets: for [`Self::generate`], once it
    /// is on record.
    ///
    /// # Errors
    /// When the token is not ready, busy, or does not answer.
    pub async fn new_key_id(&self) -> Result<Vec<u8>, HsmError> {
        let limit = self.inner().deadline;
        self.workers
            .call("to find a free CKA_ID", limit, true, |inner, session| {
                new_id(session).map_err(|fault| inner.call_error(fault))
            })
            .await
    }

    /// All private keys in the token.
    ///
    /// # Errors
    /// When the token is not ready, busy, or does not answer.
    pub async fn keys(&self) -> Result<Vec<KeyReport>, HsmError> {
        let limit = self.inner().deadline;
        self.workers
            .call("to list its keys", limit, true, |inner, session| {
                keys::list(inner, session).map_err(|fault| inner.call_error(fault))
            })
            .await
    }

    /// The private key that [`Self::generate`] made with this CKA_ID, if it did. Some tokens keep two
    /// octets of it, which no other key begins with.
    ///
    /// # Errors
    /// When the token is not ready, busy, or does not answer.
    pub async fn generated_key(&self, id: &[u8]) -> Result<Option<KeyReport>, HsmError> {
        let (limit, id) = (self.inner().deadline, id.to_vec());
        let work = move |inner: &TokenInner, session: &_| {
            keys::generated(inner, session, &id).map_err(|fault| inner.call_error(fault))
        };
        self.workers
            .call("to find a new key", limit, true, work)
            .await
    }

    /// The values of the data objects of this program with that label.
    ///
    /// # Errors
    /// When the token is not ready, busy, or does not answer.
    pub async fn data_objects(&self, label: &str) -> Result<Vec<Vec<u8>>, HsmError> {
        let (limit, label) = (self.inner().deadline, label.to_owned());
        let work = move |inner: &TokenInner, session: &_| {
            data_object::read(session, &label).map_err(|fault| inner.call_error(fault))
        };
        self.workers
            .call("to read a data object", limit, true, work)
            .await
    }

    /// Replaces the data objects with that label by one.
    ///
    /// # Errors
    /// When the token is not ready or busy, does not answer, or holds no data objects.
    pub async fn replace_data_object(&self, label: &str, value: Vec<u8>) -> Result<(), HsmError> {
        let (limit, label) = (self.inner().deadline, label.to_owned());
        let work = move |inner: &TokenInner, _: &_| {
            let session = inner
                .slot()
                .and_then(|slot| inner.module.writable_session(slot));
            session
                .and_then(|session| data_object::replace(&session, &label, &value))
                .map_err(|fault| inner.call_error(fault))
        };
        self.workers
            .call("to write a data object", limit, false, work)
            .await
    }

    /// All private keys in the token, each with whether `name` names it; none if `name` names another
    /// token.
    ///
    /// # Errors
    /// Those of [`Self::keys`].
    pub async fn keys_by_name(&self, name: &KeyName) -> Result<Vec<(bool, KeyReport)>, HsmError> {
        let Some(info) = self.info().filter(|info| name.may_be_in(info)) else {
            return Ok(Vec::new());
        };
        let keys = self.keys().await?.into_iter();
        Ok(keys.map(|key| (name.matches(&info, &key), key)).collect())
    }

    /// Opens the key for signing that has the public key `expected`; `id` is its recorded CKA_ID. The
    /// token must vouch for it.
    ///
    /// # Errors
    /// [`HsmError::NoSuchKey`], [`HsmError::AmbiguousKey`], [`HsmError::NoPublicKey`],
    /// [`HsmError::PublicKeyMismatch`], [`HsmError::Unattested`], [`HsmError::AlwaysAuthenticate`];
    /// and when the token is not ready, busy, or does not answer.
    pub async fn key(&self, id: &[u8], expected: &PublicKey) -> Result<Key, HsmError> {
        let (wanted, public) = (id.to_vec(), expected.clone());
        let limit = self.inner().deadline;
        let report = self
            .workers
            .call("to find a key", limit, true, move |inner, session| {
                keys::inspect(inner, session, &wanted, &public)
            })
            .await?;
        let (token, id) = (self.name().to_owned(), hex(&report.id));
        let kind = expected.kind();
        let algorithm = kind
            .ca_algorithm()
            .ok_or(HsmError::UnsupportedKey { kind })?;
        if report.attestation.always_authenticate == Some(true) {
            return Err(HsmError::AlwaysAuthenticate { token, id });
        }
        let missing = report.attestation.missing();
        if !missing.is_empty() {
            let which = missing.join(", ");
            if !self.inner().config.allow_unattested_keys {
                return Err(HsmError::Unattested { token, id, which });
            }
            tracing::warn!(
                token,
                key = id,
                missing = which,
                "THE TOKEN DOES NOT VOUCH FOR THIS KEY, and allow_unattested_keys lets it sign: a copy of it may \
                 exist outside the HSM"
            );
        }
        let key = self.inner().add_open_key(SigningKey {
            id: report.id,
            public: expected.clone(),
            fingerprint: expected.fingerprint(),
            algorithm,
        });
        Ok(Key::new(Arc::clone(&self.workers), key, &report.label))
    }

    /// Checks that the token signs: a signature with an open key over a fixed text that is no
    /// certificate, verified in software and counted in [`test_signatures`](Self::test_signatures).
    /// The result becomes the token's state.
    ///
    /// # Errors
    /// [`HsmError::NotReady`], [`HsmError::Busy`], [`HsmError::Timeout`], [`HsmError::Probe`].
    pub async fn probe(&self) -> Result<Probe, HsmError> {
        match self.inner().open_keys().first() {
            Some(key) => self.workers.self_test(key).await,
            None => {
                let limit = self.inner().deadline;
                self.workers
                    .call("whether it is logged in", limit, true, |_, _| Ok(()))
                    .await?;
                Ok(Probe { signing_time: None })
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
