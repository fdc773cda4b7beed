use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::lifecycle::RestartError;
use super::token_inner::TokenInner;
use crate::backoff::Backoff;

/// How often the module is started again while other tokens of it are in use: they pause meanwhile.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A token's restarts of the module, since it was ready.
pub(super) struct ModuleRestart {
    pause: Backoff,
    next: Instant,
    /// The outcome that is in the log.
    logged: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Restarted,
    Hangs,
    Failed,
}

impl Default for ModuleRestart {
    fn default() -> Self {
        Self {
            pause: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            next: Instant::now(),
            logged: None,
        }
    }
}

impl ModuleRestart {
    /// Starts the module again, unless other tokens of it are in use and were interrupted for this
    /// one a short while ago. Returns whether it was started again.
    pub(super) fn attempt(&mut self, inner: &TokenInner) -> bool {
        let (module, token) = (&inner.module, &inner.name);
        if module.is_in_use() {
            if Instant::now() < self.next {
                return false;
            }
            self.next = Instant::now() + self.pause.next_delay();
        }
        let reason = inner.state().to_string();
        let restarted = module.restart();
        let is_restarted = restarted.is_ok();
        if is_restarted {
            inner.module_restarts.fetch_add(1, Ordering::Relaxed);
        }
        match restarted {
            Ok(()) if self.is_new(Outcome::Restarted) => tracing::warn!(
                token,
                reason,
                "the PKCS#11 module was finalized and initialized again"
            ),
            Err(RestartError::Hangs(sessions)) if self.is_new(Outcome::Hangs) => tracing::warn!(
                token,
                reason,
                sessions,
                "the PKCS#11 module cannot be finalized and initialized again while threads hang in it"
            ),
            Err(RestartError::Failed(fault)) if self.is_new(Outcome::Failed) => tracing::error!(
                token,
                reason,
                error = %fault,
                "the PKCS#11 module cannot be initialized again; the attempt is repeated"
            ),
            // Another thread's restart serves this token too.
            Ok(()) | Err(_) => {}
        }
        is_restarted
    }

    /// The token is ready.
    pub(super) fn reset(&mut self) {
        self.pause.reset();
        self.logged = None;
    }

    fn is_new(&mut self, outcome: Outcome) -> bool {
        self.logged.replace(outcome) != Some(outcome)
    }
}
