//! Callers that renew by certificate and must soon present a token again: told long before they are
//! refused.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::authn::Caller;
use crate::clock::UnixTime;

/// How often it is logged of one caller.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// The most callers that are remembered.
const CALLERS: usize = 1000;

/// Of whom it was logged, and when.
#[derive(Debug, Default)]
pub(super) struct ReauthenticationLog(Mutex<HashMap<String, Instant>>);

impl ReauthenticationLog {
    pub(super) fn tell(&self, listener: &str, caller: &Caller, end: UnixTime) {
        let name = caller.identity.to_string();
        if self.is_due(&name, Instant::now()) {
            tracing::warn!(
                listener,
                caller = name,
                trust_domain = %caller.trust_domain,
                until = %end,
                "a caller renews by certificate, and must present a token again before this time \
                 (client_certificates.reauthenticate_after)"
            );
        }
    }

    fn is_due(&self, name: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= CALLERS && !told.contains_key(name) {
            told.retain(|_, at| now.duration_since(*at) < AGAIN);
            if told.len() >= CALLERS {
                return false;
            }
        }
        let last = told.get(name);
        if last.is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        told.insert(name.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_is_named_once_an_hour_and_not_all_of_them() {
        let log = ReauthenticationLog::default();
        let start = Instant::now();
        assert!(log.is_due("a", start));
        assert!(!log.is_due("a", start));
        let others = (0..2 * CALLERS).filter(|n| log.is_due(&n.to_string(), start));
        assert_eq!(others.count(), CALLERS - 1);
        assert!(log.is_due("a", start + AGAIN));
        assert!(log.is_due("another", start + AGAIN));
    }
}
