//! The results of the background prober. Health checks only read them, so they never wait for an
//! HSM.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// The state of a PKCS#11 token at its last probe.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TokenHealth {
    /// Whether a test signature, or a login check where no key is in use, succeeded.
    pub up: bool,
    pub state: String,
    /// Duration of the test signature.
    #[serde(skip)]
    pub signing_time: Option<Duration>,
    /// Signatures since the start.
    pub signatures: u64,
    /// Test signatures since the start: the HSM's own log shows the sum of both.
    pub test_signatures: u64,
    /// How often the PKCS#11 module was finalized and initialized again for this token.
    pub module_restarts: u64,
    /// Threads that hang in the module.
    pub hanging: usize,
    /// Requests that wait or are being signed.
    pub queued: usize,
}

#[derive(Debug, Default)]
struct Results {
    /// Why the ledger, the database of issued certificates, did not answer.
    ledger_error: Option<String>,
    tokens: BTreeMap<String, TokenHealth>,
    has_run: bool,
}

#[derive(Debug, Default)]
pub struct HealthState(Mutex<Results>);

impl HealthState {
    pub fn set_ledger(&self, answer: Result<(), String>) {
        let mut results = self.lock();
        results.ledger_error = answer.err();
        results.has_run = true;
    }

    pub fn set_token(&self, name: &str, health: TokenHealth) {
        self.lock().tokens.insert(name.to_owned(), health);
    }

    /// `None` when the ledger answers.
    pub fn ledger_error(&self) -> Option<String> {
        let results = self.lock();
        match results.has_run {
            true => results.ledger_error.clone(),
            false => Some("not probed yet".to_owned()),
        }
    }

    pub fn tokens(&self) -> BTreeMap<String, TokenHealth> {
        self.lock().tokens.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Results> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
