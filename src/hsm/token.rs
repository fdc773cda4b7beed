//! A token in use, its keys, and a place in its queue.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use cryptoki::session::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::{HsmError, SignError};
use super::keeper::{Keeper, Request};
use super::keys::{self, KeyReport, SigningKey, TEST_MESSAGE, hex};
use super::mechanism;
use super::module::TokenInfo;
use super::shared::{Shared, TokenState};
use super::signer::{Job, Signing, Work, Worker};
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

/// How long a large RSA key may take to make.
const GENERATION: Duration = Duration::from_secs(120);
/// How long closing waits for threads that are inside the module.
const CLOSING: Duration = Duration::from_secs(2);

/// A token in use: a keeper that holds the login, and workers that sign. Dropped, it waits up to two
/// seconds for them; one that hangs in the module is left behind, and the module is then not
/// finalized.
pub struct Token {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    keeper: Option<Sender<Request>>,
    places: Arc<Semaphore>,
    /// Disconnected once no thread is left.
    threads: Receiver<Infallible>,
}

/// What a self-test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How long the test signature took, waiting included; `None` when no key is in use, so that
    /// only the login was looked at.
    pub signed_in: Option<Duration>,
}

impl Token {
    /// Starts the threads. It does not fail when the token is missing or the PIN wrong.
    pub(super) fn start(shared: Shared, workers: usize) -> Result<Arc<Self>, HsmError> {
        let shared = Arc::new(shared);
        // Unbounded, because nobody sends without a place, and places are bounded.
        let (jobs, todo) = unbounded();
        let (keeper, requests) = unbounded();
        let (alive, threads) = bounded(0);
        let places = Arc::new(Semaphore::new(shared.queue));
        let spawn = |name: String, alive: Sender<Infallible>, work: Box<dyn FnOnce() + Send>| {
            let body = move || {
                work();
                drop(alive);
            };
            thread::Builder::new()
                .name(name)
                .spawn(body)
                .map(drop)
                .map_err(|error| HsmError::Thread {
                    token: shared.name.clone(),
                    reason: error.to_string(),
                })
        };
        let own = Keeper::new(Arc::clone(&shared));
        spawn(
            format!("hsm-{}", shared.name),
            alive.clone(),
            Box::new(move || own.run(&requests)),
        )?;
        for number in 0..workers {
            let worker = Worker::new(Arc::clone(&shared), keeper.clone(), number);
            let todo = todo.clone();
            let name = format!("hsm-{}-{number}", shared.name);
            spawn(name, alive.clone(), Box::new(move || worker.run(&todo)))?;
        }
        Ok(Arc::new(Self {
            shared,
            jobs: Some(jobs),
            keeper: Some(keeper),
            places,
            threads,
        }))
    }

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
        let algorithm =
            SignatureAlgorithm::for_ca_key(kind).ok_or(HsmError::UnsupportedKey { kind })?;
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
        Ok(Key(Arc::new(Opened {
            token: Arc::clone(self),
            key,
            label: report.label,
        })))
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

    async fn probe_with(&self, key: Arc<SigningKey>) -> Result<Probe, HsmError> {
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

    /// Destroys a key. Only for the throwaway key of `bench`: a CA's key is never destroyed here.
    ///
    /// # Errors
    /// When the token is not ready, busy, or refuses.
    pub async fn destroy_key(&self, id: &[u8]) -> Result<(), HsmError> {
        let wanted = id.to_vec();
        self.ask(
            "to destroy a key",
            self.shared.deadline,
            false,
            move |shared, _| {
                let session = writable(shared)?;
                keys::destroy(&session, &wanted).map_err(|fault| HsmError::Call {
                    token: shared.name.clone(),
                    fault,
                })
            },
        )
        .await?;
        self.shared.forget_opened(id);
        Ok(())
    }

    /// Has a worker make a call, and waits up to `limit` for its answer.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        again: bool,
        call: impl Fn(&Shared, &Session) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        self.must_be_ready()?;
        let place = self.place().map_err(|_| self.busy())?;
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + limit;
        let work = Work::Call(Box::new(move |worker| {
            // Too late, or nobody waits: the caller was told that nothing came of it.
            if !reply.is_closed() {
                let _ = reply.send(worker.call(deadline, again, call));
            }
        }));
        self.send(Job { work, place });
        let timeout = || HsmError::Timeout {
            token: self.shared.name.clone(),
            what,
            after: limit,
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(timeout()),
        }
    }

    async fn enqueue(
        &self,
        key: &Arc<SigningKey>,
        message: &[u8],
        deadline: Instant,
        test: bool,
        place: OwnedSemaphorePermit,
    ) -> Result<Vec<u8>, SignError> {
        let input = mechanism::input(key.algorithm, message)
            .map_err(|fault| SignError::Refused(fault.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let job = Signing {
            key: Arc::clone(key),
            input,
            deadline,
            test,
            reply,
        };
        self.send(Job {
            work: Work::Sign(job),
            place,
        });
        answer.await.unwrap_or_else(|_| {
            Err(SignError::Unknown(
                "the worker ended before it answered".into(),
            ))
        })
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, SignError> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| SignError::Busy)
    }

    fn send(&self, job: Job) {
        // Without workers the job is dropped, and with it its reply, which the caller notices.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    fn doubt(&self, reason: String) {
        if let Some(keeper) = &self.keeper {
            let _ = keeper.send(Request::Doubt(reason));
        }
    }

    fn busy(&self) -> HsmError {
        HsmError::Busy {
            token: self.shared.name.clone(),
            queue: self.shared.queue,
        }
    }

    fn must_be_ready(&self) -> Result<(), HsmError> {
        match self.state() {
            TokenState::Ready => Ok(()),
            state => Err(HsmError::NotReady {
                token: self.shared.name.clone(),
                state,
            }),
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

impl Drop for Token {
    fn drop(&mut self) {
        self.jobs = None;
        self.keeper = None;
        // Ends by disconnection when the last thread has dropped its session; a thread that hangs in
        // the module keeps an Arc of it, so that C_Finalize is not called under its feet.
        if self.threads.recv_timeout(CLOSING) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(
                token = self.shared.name,
                "a thread hangs in the PKCS#11 module and is left behind"
            );
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

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
