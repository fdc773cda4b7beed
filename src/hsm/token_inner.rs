use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::config::{Config, TokenConfig};
use super::error::HsmError;
use super::fault::Fault;
use super::mechanism::HashedInToken;
use super::module::Module;
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
    login_generation: AtomicU64,
    state: watch::Sender<TokenState>,
    info: Mutex<Option<TokenInfo>>,
    hashed_in_token: Mutex<HashedInToken>,
    open_keys: Mutex<Vec<Arc<SigningKey>>>,
    failure_reported: AtomicBool,
    login_is_shown: AtomicBool,
    /// For each worker, when it started to sign, in ms since `started`; 0 when idle.
    busy_since: Vec<AtomicU64>,
    started: Instant,
}

impl TokenInner {
    pub(super) fn new(
        name: &str,
        module: Arc<Module>,
        config: &Config,
        token: TokenConfig,
    ) -> Self {
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
            login_generation: AtomicU64::new(0),
            state: watch::Sender::new(TokenState::Starting),
            info: Mutex::new(None),
            hashed_in_token: Mutex::default(),
            open_keys: Mutex::new(Vec::new()),
            failure_reported: AtomicBool::new(false),
            login_is_shown: AtomicBool::new(true),
            busy_since: (0..config.workers()).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
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

    /// Logs and publishes `new` when it differs from the state before.
    pub(super) fn set_state(&self, new: TokenState) {
        self.state.send_if_modified(|state| {
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

    pub(super) fn set_busy(&self, worker: usize, busy: bool) {
        let since = if busy { self.elapsed_ms() } else { 0 };
        if let Some(entry) = self.busy_since.get(worker) {
            entry.store(since, Ordering::Relaxed);
        }
    }

    /// True when every worker has been in C_Sign for twice the time limit of a request.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.elapsed_ms();
        let limit = u64::try_from(self.deadline.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        self.busy_since.iter().all(|since| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && now.saturating_sub(since) > limit
        })
    }

    /// From 1: 0 stands for an idle worker.
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
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
