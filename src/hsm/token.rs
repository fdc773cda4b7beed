//! A token in use, and what can be asked of it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use cryptoki::session::Session;
use tokio::sync::{Semaphore, watch};

use super::error::{HsmError, SignError};
use super::keeper::Request;
use super::key::Key;
use super::keys::{self, KeyReport, SigningKey, TEST_MESSAGE};
use super::mechanism;
use super::module::TokenInfo;
use super::shared::{Shared, TokenState};
use super::signer::Job;
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey};

/// How long a large RSA key may take to make.
const GENERATION: Duration = Duration::from_secs(120);

/// A token in use: a keeper that holds the login, and workers that sign. Dropped, it waits up to two
/// seconds for them; one that hangs in the module is left behind, and the module is then not
/// finalized.
pub struct Token {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Option<Sender<Job>>,
    pub(super) keeper: Option<Sender<Request>>,
    pub(super) places: Arc<Semaphore>,
    /// Disconnected once no thread is left.
    pub(super) threads: Receiver<Infallible>,
    /// For the end.
    pub(super) handles: Vec<JoinHandle<()>>,
}

/// What a self-test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How long the test signature took, waiting included; `None` when no key is in use, so that
    /// only the login was looked at.
    pub signed_in: Option<Duration>,
}

impl Token {
    /// Its name in the config.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it can do now. It is only read, so that a probe costs nothing.
    pub fn state(&self) -> TokenState {
        self.shared.state()
    }

    /// Follows its state.
    pub fn watch(&self) -> watch::Receiver<TokenState> {
        self.shared.watch()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// [`HsmError::NotReady`] as soon as the token says it refuses the PIN, or after `limit`.
    pub async fn ready(&self, limit: Duration) -> Result<(), HsmError> {
        let mut states = self.watch();
        let settled = states.wait_for(|state| {
            matches!(
                state,
                TokenState::Ready | TokenState::PinRejected | TokenState::FinalTry
            )
        });
        let _ = tokio::time::timeout(limit, settled).await;
        self.must_be_ready()
    }

    /// The token as it described itself when it was last logged in to.
    pub fn info(&self) -> Option<TokenInfo> {
        self.shared.info()
    }

    /// Signatures made since the start, without test signatures.
    pub fn signatures(&self) -> u64 {
        self.shared.signatures.load(Ordering::Relaxed)
    }

    /// Test signatures made since the start.
    pub fn test_signatures(&self) -> u64 {
        self.shared.test_signatures.load(Ordering::Relaxed)
    }

    /// Calls of C_Sign that failed in a way that leaves open whether the token signed. Its own log
    /// shows at least `signatures + test_signatures`, and at most these more.
    pub fn doubtful_signatures(&self) -> u64 {
        self.shared.doubtful_signatures.load(Ordering::Relaxed)
    }

    /// Requests that wait for a worker now.
    pub fn queued(&self) -> usize {
        self.shared
            .queue
            .saturating_sub(self.places.available_permits())
    }

    /// Makes a key pair in the token: sensitive, not extractable, for signing only.
    ///
    /// # Errors
    /// [`HsmError::KeyExists`] when the CKA_ID is taken, [`HsmError::UnsupportedKey`]; and when the
    /// token is not ready, busy or refuses. After [`HsmError::Timeout`] a key may have been made.
    pub async fn generate(
        &self,
        kind: KeyKind,
        label: &str,
        id: &[u8],
    ) -> Result<PublicKey, HsmError> {
        if mechanism::generation(kind).is_none() {
            return Err(HsmError::UnsupportedKey { kind });
        }
        let (label, id) = (label.to_owned(), id.to_vec());
        self.ask("to generate a key", GENERATION, false, move |shared, _| {
            let session = writable(shared)?;
            keys::generate(shared, &session, kind, &label, &id)
        })
        .await
    }

    /// All private keys in the token.
    ///
    /// # Errors
    /// When the token is not ready, busy, or does not answer.
    pub async fn keys(&self) -> Result<Vec<KeyReport>, HsmError> {
        self.ask(
            "to list its keys",
            self.shared.deadline,
            true,
            |shared, session| {
                keys::list(session).map_err(|fault| HsmError::Call {
                    token: shared.name.clone(),
                    fault,
                })
            },
        )
        .await
    }

    /// Opens a key for signing: it must be there once, be the one on record, and be vouched for.
    ///
    /// # Errors
    /// [`HsmError::NoSuchKey`], [`HsmError::AmbiguousKey`], [`HsmError::NoPublicKey`],
    /// [`HsmError::PublicKeyMismatch`], [`HsmError::Unattested`]; and when the token is not ready,
    /// busy, or does not answer.
    pub async fn key(self: &Arc<Self>, id: &[u8], expected: &PublicKey) -> Result<Key, HsmError> {
        let wanted = id.to_vec();
        let report = self
            .ask(
                "to find a key",
                self.shared.deadline,
                true,
                move |shared, session| keys::inspect(shared, session, &wanted),
            )
            .await?;
        let (token, id) = (self.shared.name.clone(), hex(&report.id));
        let public = match report.public_key {
            Ok(public) if public == *expected => public,
            Ok(_) => return Err(HsmError::PublicKeyMismatch { token, id }),
            Err(reason) => return Err(HsmError::NoPublicKey { token, id, reason }),
        };
        let kind = public.kind();
        let algorithm = kind
            .ca_algorithm()
            .ok_or(HsmError::UnsupportedKey { kind })?;
        let missing = report.attestation.missing();
        if !missing.is_empty() {
            let which = missing.join(", ");
            if !self.shared.config.allow_unattested_keys {
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
        let key = self.shared.note_opened(SigningKey {
            id: report.id,
            public,
            algorithm,
        });
        Ok(Key::new(Arc::clone(self), key, report.label))
    }

    /// Looks whether the token really signs: a signature over a fixed text that is no certificate,
    /// with a key that is in use, verified in software. It is counted in
    /// [`test_signatures`](Self::test_signatures), never in [`signatures`](Self::signatures). What
    /// it finds becomes the token's state.
    ///
    /// # Errors
    /// [`HsmError::NotReady`], [`HsmError::Busy`], [`HsmError::Timeout`], [`HsmError::Probe`].
    pub async fn probe(&self) -> Result<Probe, HsmError> {
        self.must_be_ready()?;
        match self.shared.opened().into_iter().next() {
            Some(key) => self.probe_with(key).await,
            None => {
                self.ask(
                    "whether it is logged in",
                    self.shared.deadline,
                    true,
                    |_, _| Ok(()),
                )
                .await?;
                Ok(Probe { signed_in: None })
            }
        }
    }

    pub(super) async fn probe_with(&self, key: Arc<SigningKey>) -> Result<Probe, HsmError> {
        let token = self.shared.name.clone();
        let place = self.place().map_err(|_| self.busy())?;
        let after = self.shared.deadline;
        let start = Instant::now();
        let signing = self.enqueue(&key, TEST_MESSAGE, start + after, true, place);
        let outcome = match tokio::time::timeout(after, signing).await {
            Ok(Ok(signature)) => keys::verify_test(&key, &signature),
            Ok(Err(SignError::Busy | SignError::Expired)) => return Err(self.busy()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let error = HsmError::Timeout {
                    token,
                    what: "to make a test signature",
                    after,
                };
                // The keeper may hang as well, and could not say so.
                self.shared
                    .set_state(TokenState::Unavailable(error.to_string()));
                self.doubt(error.to_string());
                return Err(error);
            }
        };
        match outcome {
            Ok(()) => Ok(Probe {
                signed_in: Some(start.elapsed()),
            }),
            Err(reason) => {
                self.doubt(reason.clone());
                Err(HsmError::Probe { token, reason })
            }
        }
    }
}

/// A session that may make and destroy objects, logged in by the keeper's login.
fn writable(shared: &Shared) -> Result<Session, HsmError> {
    let slot = shared.info().map_or(0, |info| info.slot);
    shared
        .module
        .writable_session(slot)
        .map_err(|fault| HsmError::Call {
            token: shared.name.clone(),
            fault,
        })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
