//! Failed authentications and refused calls: their metrics, where no label holds text of a caller, and
//! their log lines.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::authn::{Api, AuthnError};
use crate::cluster::NodeAuthorizationError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    listener: String,
    api: String,
    cluster: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

/// Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    refused: Family<Labels, Counter>,
    due: Family<ListenerLabels, Counter>,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "authentications_refused",
            "Calls that failed authentication, or whose caller could not be authenticated now",
            self.refused.clone(),
        );
        registry.register(
            "reauthentications_due",
            "Calls authenticated by a certificate whose renewals end soon without another token",
            self.due.clone(),
        );
    }

    /// Counts from zero what this listener may refuse: a counter that begins at one shows no growth.
    pub(super) fn begin(&self, listener: &str, apis: &[Api], clusters: &[String]) {
        self.due(listener);
        let none = String::new();
        for api in apis {
            for cluster in clusters.iter().chain([&none]) {
                for reason in REASONS {
                    self.counter(listener, *api, cluster, reason);
                }
            }
        }
    }

    /// `cluster` is a name of the configuration, or empty.
    pub(super) fn count(&self, listener: &str, api: Api, cluster: &str, reason: &'static str) {
        self.counter(listener, api, cluster, reason).inc();
    }

    /// A call of somebody who must present a token again soon.
    pub(super) fn count_due(&self, listener: &str) {
        self.due(listener).inc();
    }

    fn due(&self, listener: &str) -> Counter {
        self.due.get_or_create_owned(&ListenerLabels {
            listener: listener.to_owned(),
        })
    }

    fn counter(&self, listener: &str, api: Api, cluster: &str, reason: &'static str) -> Counter {
        self.refused.get_or_create_owned(&Labels {
            listener: listener.to_owned(),
            api: api.to_string(),
            cluster: cluster.to_owned(),
            reason,
        })
    }
}

/// How often the same reason is logged for the same address.
const WINDOW: Duration = Duration::from_secs(60);
/// Different reasons for one address in a window, and all lines in it: anyone can make up issuers.
const LINES_OF_ADDRESS: usize = 20;
const LINES: usize = 1000;

/// Which refusals are logged: each reason once a minute for each address.
#[derive(Debug)]
pub(super) struct RefusalLog(Mutex<Window>);

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: HashSet<(Option<IpAddr>, u64)>,
    of_address: HashMap<Option<IpAddr>, usize>,
    suppressed: u64,
}

impl Window {
    fn new(start: Instant) -> Self {
        Self {
            start,
            lines: HashSet::new(),
            of_address: HashMap::new(),
            suppressed: 0,
        }
    }
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self(Mutex::new(Window::new(Instant::now())))
    }
}

impl RefusalLog {
    /// `Some` when a line is to be logged, with the number suppressed since the last one.
    pub(super) fn allow(&self, address: Option<IpAddr>, reason: &str) -> Option<u64> {
        self.allow_at(address, reason, Instant::now())
    }

    fn allow_at(&self, address: Option<IpAddr>, reason: &str, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.start) >= WINDOW {
            let suppressed = window.suppressed;
            *window = Window::new(now);
            window.suppressed = suppressed;
        }
        // Times and ids differ from call to call.
        let mut hasher = DefaultHasher::new();
        let same = reason.bytes().filter(|byte| !byte.is_ascii_digit());
        same.for_each(|byte| byte.hash(&mut hasher));
        let line = (address, hasher.finish());
        let is_full = window.lines.len() >= LINES;
        let seen = window.lines.contains(&line);
        let lines = window.of_address.get(&address).copied().unwrap_or_default();
        if is_full || seen || lines >= LINES_OF_ADDRESS {
            window.suppressed += 1;
            return None;
        }
        window.lines.insert(line);
        window.of_address.insert(address, lines + 1);
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// The values of the label `reason`.
const REASONS: [&str; 5] = [
    "missing",
    "rejected",
    "too_many",
    "cannot_tell",
    "not_delegated",
];

/// The value of the label `reason`.
pub(super) fn reason(error: &AuthnError) -> &'static str {
    match error {
        AuthnError::Missing => "missing",
        AuthnError::Rejected { .. } => "rejected",
        AuthnError::Busy { .. } => "too_many",
        AuthnError::Unavailable(_) | AuthnError::Timeout(_) => "cannot_tell",
    }
}

/// The value of the label `reason` for a node's proxy.
pub(super) fn delegation_reason(error: &NodeAuthorizationError) -> &'static str {
    match error {
        NodeAuthorizationError::Refused(_) => "not_delegated",
        NodeAuthorizationError::Unavailable(error) => reason(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reason_is_counted_from_the_start() {
        let rejected = AuthnError::rejected("expired");
        for error in [AuthnError::Missing, rejected] {
            assert!(REASONS.contains(&reason(&error)));
        }
        let mut registry = Registry::default();
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        metrics.begin("mesh", &[Api::Istio], &["one".to_owned()]);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        let refused = |page: &str| {
            let lines = page.lines().filter(|line| line.contains("reason="));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let found = refused(&page);
        let zeros = found.iter().filter(|line| line.ends_with("} 0"));
        // With the cluster, and for who names none.
        assert_eq!(zeros.count(), 2 * REASONS.len(), "{page}");
        metrics.count("mesh", Api::Istio, "one", "rejected");
        page.clear();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert_eq!(refused(&page).len(), 2 * REASONS.len(), "{page}");
    }

    #[test]
    fn a_reason_is_logged_once_a_minute_for_each_address() {
        let log = RefusalLog::default();
        let start = Instant::now();
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| Some(IpAddr::from(ip)));
        assert_eq!(log.allow_at(a, "expired at 17:01", start), Some(0));
        assert_eq!(log.allow_at(a, "expired at 17:02", start), None);
        assert_eq!(log.allow_at(b, "expired at 17:02", start), Some(1));
        assert_eq!(log.allow_at(a, "unknown key", start), Some(0));
        let later = start + WINDOW + Duration::from_secs(1);
        assert_eq!(log.allow_at(a, "expired at 17:05", later), Some(0));
    }

    #[test]
    fn made_up_reasons_do_not_fill_the_log() {
        let log = RefusalLog::default();
        let now = Instant::now();
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let logged = |from: u32| {
            let reasons = (0..100).map(|n| "x".repeat(n + 1));
            let logged = reasons.filter(|why| log.allow_at(address(from), why, now).is_some());
            logged.count()
        };
        assert_eq!(logged(1), LINES_OF_ADDRESS);
        assert_eq!(
            (2..200).map(logged).sum::<usize>(),
            LINES - LINES_OF_ADDRESS
        );
    }
}
