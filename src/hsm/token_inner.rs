use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::config::{Config, TokenConfig};
use super::error::HsmError;
use super::fault::Fault;
use super::logins::Logins;
use super::mechanism::HashedInToken;
use super::module::Module;
use super::seat::Seats;
use super::signing_key::SigningKey;
use super::token_info::TokenInfo;
use super::token_state::TokenState;

/// What a token's login thread, its workers and its callers share.
#[derive(Debug)]
pub(super) struct TokenInner {
    /// As `[hsm.tokens.NAME]` calls it.
    pub(super) name: String,
    pub(super) module: Arc<Module>,
    pub(super) config: TokenConfig,
    /// Where it is remembered that the token refused a PIN.
    pub(super) state_directory: Option<PathBuf>,
    /// How many requests may wait.
    pub(super) queue: usize,
    /// The time limit of a request, waiting included.
    pub(super) deadline: Duration,
    pub(super) probe_interval: Duration,
    pub(super) signatures: AtomicU64,
    pub(super) test_signatures: AtomicU64,
    pub(super) unconfirmed_signatures: AtomicU64,
    /// How often the module was started again for this token.
    pub(super) module_restarts: AtomicU64,
    /// Of C_SignInit and C_Sign, smoothed, in ns; 0 before the first.
    signing_time: AtomicU64,
    login_generation: AtomicU64,
    state: watch::Sender<TokenState>,
    info: Mutex<Option<TokenInfo>>,
    hashed_in_token: Mutex<HashedInToken>,
    open_keys: Mutex<Vec<Arc<SigningKey>>>,
    failure_reported: AtomicBool,
    login_is_shown: AtomicBool,
    /// The workers'.
    pub(super) seats: Seats,
    /// The login threads'.
    pub(super) login_seats: Seats,
    logins: Mutex<Logins>,
    /// How many workers the configuration allows.
    most_workers: usize,
    /// How many the token bears, as of the last login; 1 before it.
    bears: AtomicUsize,
    hanging: AtomicUsize,
    /// Why nothing can sign although the login may be good.
    stuck: Mutex<Option<String>>,
    started: Instant,
}

impl TokenInner {
    pub(super) fn new(
        name: &str,
        module: Arc<Module>,
        config: &Config,
        token: TokenConfig,
    ) -> Self {
        let (started, final_try) = (Instant::now(), token.final_try);
        Self {
            name: name.to_owned(),
            module,
            config: token,
            state_directory: config.state_directory().map(Path::to_owned),
            queue: config.queue(),
            deadline: config.deadline(),
            probe_interval: config.probe_interval(),
            signatures: AtomicU64::new(0),
            test_signatures: AtomicU64::new(0),
            unconfirmed_signatures: AtomicU64::new(0),
            module_restarts: AtomicU64::new(0),
            signing_time: AtomicU64::new(0),
            login_generation: AtomicU64::new(0),
            state: watch::Sender::new(TokenState::Starting),
            info: Mutex::new(None),
            hashed_in_token: Mutex::default(),
            open_keys: Mutex::new(Vec::new()),
            failure_reported: AtomicBool::new(false),
            login_is_shown: AtomicBool::new(true),
            seats: Seats::default(),
            login_seats: Seats::default(),
            logins: Mutex::new(Logins::new(final_try)),
            most_workers: config.workers(),
            bears: AtomicUsize::new(1),
            hanging: AtomicUsize::new(0),
            stuck: Mutex::new(None),
            started,
        }
    }

    pub(super) fn state(&self) -> TokenState {
        self.state.borrow().clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.state.borrow() == TokenState::Ready
    }

    pub(super) fn watch(&self) -> watch::Receiver<TokenState> {
        self.state.subscribe()
    }

    /// Logs and publishes `new` when it differs from the state before. A token that is stuck does not
    /// become ready.
    pub(super) fn set_state(&self, new: TokenState) {
        self.state.send_if_modified(|state| {
            let new = match (new, self.stuck()) {
                (TokenState::Ready, Some(why)) => TokenState::Unavailable(why),
                (new, _) => new,
            };
            if *state == new {
                return false;
            }
            if new == TokenState::Ready {
                tracing::info!(token = self.name, "the token is ready");
            } else {
                tracing::warn!(token = self.name, state = %new, "the token is not ready");
            }
            *state = new;
            true
        });
    }

    /// Grows with every login and every new session of the login thread. A worker's session of an
    /// older generation is stale, and so are its object handles.
    pub(super) fn login_generation(&self) -> u64 {
        self.login_generation.load(Ordering::SeqCst)
    }

    pub(super) fn set_logged_in(&self, info: TokenInfo) {
        let hashed = self.module.hashed_in_token(info.slot);
        // One for the login thread, and one that creates objects.
        let bears = info.most_sessions.map_or(usize::MAX, |most| {
            usize::try_from(most)
                .unwrap_or(usize::MAX)
                .saturating_sub(2)
        });
        self.bears.store(bears.max(1), Ordering::Relaxed);
        *self
            .hashed_in_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = hashed;
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
        self.login_generation.fetch_add(1, Ordering::SeqCst);
    }

    /// As of the last login.
    pub(super) fn hashed_in_token(&self) -> HashedInToken {
        *self
            .hashed_in_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether sessions show the login (C_GetSessionInfo). They do not when the token needs none, or
    /// when the module reports no state.
    pub(super) fn login_is_shown(&self) -> bool {
        self.login_is_shown.load(Ordering::SeqCst)
    }

    pub(super) fn set_login_is_shown(&self, shown: bool) {
        self.login_is_shown.store(shown, Ordering::SeqCst);
    }

    /// As of the last login.
    pub(super) fn info(&self) -> Option<TokenInfo> {
        self.info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The slot of the last login.
    pub(super) fn slot(&self) -> Result<u64, Fault> {
        let info = self.info();
        info.map(|info| info.slot)
            .ok_or_else(|| Fault::other("C_OpenSession", self.state().to_string()))
    }

    /// The keys with which the token can show that it signs.
    pub(super) fn open_keys(&self) -> Vec<Arc<SigningKey>> {
        self.open_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A key that is open already is returned as it is, unless its CKA_ID has changed.
    pub(super) fn add_open_key(&self, key: SigningKey) -> Arc<SigningKey> {
        let mut open = self
            .open_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|known| known.public == key.public)
            && known.id == key.id
        {
            return Arc::clone(known);
        }
        open.retain(|known| known.public != key.public);
        let key = Arc::new(key);
        open.push(Arc::clone(&key));
        key
    }

    /// True for the first report since the last [`start_failure_check`](Self::start_failure_check).
    pub(super) fn mark_failure_reported(&self) -> bool {
        !self.failure_reported.swap(true, Ordering::SeqCst)
    }

    /// Later failures are reported again.
    pub(super) fn start_failure_check(&self) {
        self.failure_reported.store(false, Ordering::SeqCst);
    }

    /// Counts a signature's time in.
    pub(super) fn add_signing_time(&self, took: Duration) {
        let took = took.min(self.deadline).as_nanos();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        // Two threads at once may lose one of their times.
        let before = self.signing_time.load(Ordering::Relaxed);
        let after = match before {
            0 => took,
            _ => before - before / 8 + took / 8,
        };
        self.signing_time.store(after, Ordering::Relaxed);
    }

    /// When a request has its signature that so many are ahead of. `None` when none is for each worker.
    pub(super) fn wait_behind(&self, ahead: usize) -> Option<Duration> {
        let workers = self.wanted_workers().max(1);
        let each = Duration::from_nanos(self.signing_time.load(Ordering::Relaxed));
        let turns = u32::try_from(ahead / workers).unwrap_or(u32::MAX);
        (turns > 0).then(|| each.saturating_mul(turns.saturating_add(1)))
    }

    /// How long a request takes that comes after so many others, about.
    pub(super) fn time_for(&self, others: usize) -> Duration {
        let workers = self.wanted_workers().max(1);
        let each = Duration::from_nanos(self.signing_time.load(Ordering::Relaxed));
        let turns = u32::try_from(others / workers).unwrap_or(u32::MAX);
        // Of two idle tokens that are equally fast, the one with fewer requests.
        each.saturating_mul(turns.saturating_add(1)) + Duration::from_nanos(others as u64)
    }

    /// As many workers as the token bears sessions, and as the configuration allows.
    pub(super) fn wanted_workers(&self) -> usize {
        let bears = self.bears.load(Ordering::Relaxed);
        self.most_workers.min(bears)
    }

    /// How many workers may hang in the module beside those that work.
    pub(super) fn most_abandoned(&self) -> usize {
        self.most_workers
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn set_hanging(&self, threads: usize) {
        self.hanging.store(threads, Ordering::Relaxed);
    }

    pub(super) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::Relaxed)
    }

    /// What its login threads know of the PINs that were sent.
    pub(super) fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can sign until calls into the module return.
    pub(super) fn stuck(&self) -> Option<String> {
        self.stuck_lock().clone()
    }

    /// Every worker hangs in the module, and none may be replaced.
    pub(super) fn set_stuck(&self) {
        let why = format!(
            "{} threads hang in the PKCS#11 module, and no more are started: when the HSM does not answer again, \
             restart this process",
            self.hanging()
        );
        self.stuck_lock().get_or_insert_with(|| why.clone());
        self.set_state(TokenState::Unavailable(why));
    }

    /// Whether it was stuck.
    pub(super) fn clear_stuck(&self) -> bool {
        self.stuck_lock().take().is_some()
    }

    fn stuck_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call_error(&self, fault: Fault) -> HsmError {
        HsmError::Call {
            token: self.name.clone(),
            fault,
        }
    }

    pub(super) fn busy_error(&self) -> HsmError {
        HsmError::Busy {
            token: self.name.clone(),
            queue: self.queue,
        }
    }

    pub(super) fn require_ready(&self) -> Result<(), HsmError> {
        match self.state() {
            TokenState::Ready => Ok(()),
            state => Err(HsmError::NotReady {
                token: self.name.clone(),
                state,
            }),
        }
    }
}
