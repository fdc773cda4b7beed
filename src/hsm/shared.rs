//! What a token's keeper, its workers and its callers have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::watch;

use super::config::{Config, TokenConfig};
use super::keeper::Request;
use super::keys::SigningKey;
use super::module::{Module, TokenInfo};

/// What a token can do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Not looked at yet.
    Starting,
    /// Logged in.
    Ready,
    /// The PIN was refused. No login is tried until the PIN's source has other content.
    PinRejected,
    /// A wrong PIN would lock the token, and nobody said to risk it.
    FinalTry,
    /// Anything else, in words. It is tried again and again.
    Unavailable(String),
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("it is being looked at for the first time"),
            Self::Ready => f.write_str("ready"),
            Self::PinRejected => f.write_str(
                "it refused the PIN; correct the PIN's source, and it is tried once more (an unchanged PIN is \
                 not, because repeated attempts lock the token)",
            ),
            Self::FinalTry => f.write_str(
                "one more wrong PIN locks it, so no login is tried; make sure of the PIN, then start with --final-try",
            ),
            Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

/// See the module's words.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) module: Arc<Module>,
    pub(super) config: TokenConfig,
    pub(super) queue: usize,
    pub(super) deadline: Duration,
    pub(super) probe_interval: Duration,
    /// Grows with every login and every new session of the keeper: an older session of a worker is
    /// stale then, and so are its handles.
    pub(super) epoch: AtomicU64,
    pub(super) signatures: AtomicU64,
    pub(super) test_signatures: AtomicU64,
    pub(super) doubtful_signatures: AtomicU64,
    state: watch::Sender<TokenState>,
    info: Mutex<Option<TokenInfo>>,
    opened: Mutex<Vec<Arc<SigningKey>>>,
    doubted: AtomicBool,
    /// For each worker, when it went to the token to sign, in ms since `started`; 0 when idle.
    busy_since: Vec<AtomicU64>,
    started: Instant,
}

impl Shared {
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
            queue: config.queue(),
            deadline: config.deadline(),
            probe_interval: config.probe_interval(),
            epoch: AtomicU64::new(0),
            signatures: AtomicU64::new(0),
            test_signatures: AtomicU64::new(0),
            doubtful_signatures: AtomicU64::new(0),
            state: watch::Sender::new(TokenState::Starting),
            info: Mutex::new(None),
            opened: Mutex::new(Vec::new()),
            doubted: AtomicBool::new(false),
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

    /// Tells everybody, and the log when it is news.
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

    pub(super) fn info(&self) -> Option<TokenInfo> {
        self.info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_info(&self, info: TokenInfo) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
    }

    /// The keys that are in use, with which the token can prove that it signs.
    pub(super) fn opened(&self) -> Vec<Arc<SigningKey>> {
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes a key that is in use; the same key opened twice is one.
    pub(super) fn note_opened(&self, key: SigningKey) -> Arc<SigningKey> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.iter().find(|known| known.id == key.id) {
            return Arc::clone(known);
        }
        let key = Arc::new(key);
        opened.push(Arc::clone(&key));
        key
    }

    /// Tells the keeper that signing failed; once, until it has looked into it.
    pub(super) fn doubt(&self, keeper: &Sender<Request>, reason: String) {
        if !self.doubted.swap(true, Ordering::SeqCst) {
            let _ = keeper.send(Request::Doubt(reason));
        }
    }

    /// The keeper looks into it now: what fails from here on is news.
    pub(super) fn hear_doubt(&self) {
        self.doubted.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_busy(&self, worker: usize, busy: bool) {
        let since = if busy { self.now_ms() } else { 0 };
        if let Some(slot) = self.busy_since.get(worker) {
            slot.store(since, Ordering::Relaxed);
        }
    }

    /// True when every worker has waited for the token for longer than any caller would.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.now_ms();
        let patience = u64::try_from(self.deadline.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        self.busy_since.iter().all(|since| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && now.saturating_sub(since) > patience
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}
