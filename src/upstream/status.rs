//! What operators see of renewals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::UnixTime;
use crate::ledger::CaRequestRecord;

/// One authority with an upstream CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestStatus {
    pub trust_domain: String,
    pub upstream: String,
    /// When the issuing CA is renewed, RFC 3339; absent while there is none, or a request is in flight.
    pub renewal_at: Option<String>,
    #[serde(skip)]
    pub renewal_at_secs: Option<i64>,
    /// The request in flight.
    pub request: Option<OpenRequest>,
    /// Why the last request ended without a certificate.
    pub last_refusal: Option<String>,
}

/// A request in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenRequest {
    pub request: i64,
    pub state: &'static str,
    pub reference: Option<String>,
    pub problem: Option<String>,
    pub attempts: u32,
    pub next_attempt_at: String,
    pub since: String,
    #[serde(skip)]
    pub since_secs: i64,
}

impl OpenRequest {
    pub(super) fn of(record: &CaRequestRecord) -> Self {
        Self {
            request: record.id.get(),
            state: record.state.as_str(),
            reference: record.reference.clone(),
            problem: record.problem.clone(),
            attempts: record.attempts,
            next_attempt_at: record.next_attempt_at.to_string(),
            since: record.created_at.to_string(),
            since_secs: record.created_at.secs(),
        }
    }
}

/// The newest status of every authority with an upstream CA.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<BTreeMap<String, RequestStatus>>);

impl Statuses {
    pub fn all(&self) -> Vec<RequestStatus> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn set(&self, status: RequestStatus) {
        self.lock().insert(status.trust_domain.clone(), status);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RequestStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a status and a log line.
pub(super) fn times(at: Option<UnixTime>) -> (Option<String>, Option<i64>) {
    (at.map(|at| at.to_string()), at.map(UnixTime::secs))
}
