//! What the background prober found last. Probes only read it: a health check never waits for
//! an HSM.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// One token at the last probe.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TokenHealth {
    /// Whether a test signature, or a login check where no key is in use, succeeded.
    pub up: bool,
    /// Its state in words.
    pub state: String,
    /// How long the test signature took, in seconds.
    #[serde(skip)]
    pub signed_in: Option<Duration>,
    /// Signatures since the start.
    pub signatures: u64,
    /// Test signatures since the start: the HSM's own log shows the sum of both.
    pub test_signatures: u64,
    /// Requests that wait or are being signed.
    pub queued: usize,
}

#[derive(Debug, Default)]
struct Found {
    ledger: Option<String>,
    tokens: BTreeMap<String, TokenHealth>,
    has_run: bool,
}

/// The prober's last findings.
#[derive(Debug, Default)]
pub struct HealthState(Mutex<Found>);

impl HealthState {
    /// The ledger answered, or why not.
    pub fn set_ledger(&self, answer: Result<(), String>) {
        let mut found = self.lock();
        found.ledger = answer.err();
        found.has_run = true;
    }

    /// How a token was found.
    pub fn set_token(&self, name: &str, token_health: TokenHealth) {
        self.lock().tokens.insert(name.to_owned(), token_health);
    }

    /// Why the ledger does not answer; `None` when it does.
    pub fn ledger_error(&self) -> Option<String> {
        let found = self.lock();
        match found.has_run {
            true => found.ledger.clone(),
            false => Some("not probed yet".to_owned()),
        }
    }

    /// Every token that is in use.
    pub fn tokens(&self) -> BTreeMap<String, TokenHealth> {
        self.lock().tokens.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
