//! Metrics of issuance. No label holds the name of a workload.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::admission::Limited;
use super::category::METRIC_LABELS;
use super::error::IssueError;
use super::issued::Issued;
use super::request::IssuanceRequest;
use crate::authn::Caller;
use crate::hsm::SignError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuedLabels {
    trust_domain: String,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitedLabels {
    trust_domain: String,
    cluster: String,
    limit: &'static str,
    reason: &'static str,
}

/// Clones share their counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    issued: Family<IssuedLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    limited: Family<LimitedLabels, Counter>,
    duration: Histogram,
    in_progress: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            issued: Family::default(),
            refused: refused_from_zero(),
            limited: Family::default(),
            // 0.5 ms to 8 s: from an idle SoftHSM to past the HSM's deadline.
            duration: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            in_progress: Gauge::default(),
        }
    }
}

/// A counter that begins at one shows no growth.
fn refused_from_zero() -> Family<RefusedLabels, Counter> {
    let refused = Family::default();
    for cause in METRIC_LABELS {
        refused.get_or_create_owned(&RefusedLabels { cause });
    }
    refused
}

impl Metrics {
    /// docs/reference/metrics.md lists the names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "certificates_issued",
            "Certificates that were issued",
            self.issued.clone(),
        );
        registry.register(
            "certificates_refused",
            "Requests that ended without a certificate, by cause",
            self.refused.clone(),
        );
        registry.register(
            "requests_limited",
            "Requests beyond what a caller or a cluster may request, or beyond a share of the HSM's queue",
            self.limited.clone(),
        );
        registry.register_with_unit(
            "sign_duration",
            "Time from the record of the intent to that of the outcome, including the HSM",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "issuances_under_way",
            "Requests that are being recorded or signed",
            self.in_progress.clone(),
        );
    }

    /// Counts an issuance as in progress until this is dropped, and then its duration.
    pub(super) fn start(&self) -> InProgress {
        self.in_progress.inc();
        InProgress {
            metrics: self.clone(),
            started: Instant::now(),
        }
    }

    pub(super) fn count(&self, request: &IssuanceRequest, outcome: &Result<&Issued, &IssueError>) {
        match outcome {
            Ok(_) => {
                let labels = IssuedLabels {
                    trust_domain: request.caller.trust_domain.to_string(),
                    method: request.caller.method.name(),
                };
                self.issued.get_or_create(&labels).inc();
            }
            Err(error) => self.count_refused(&request.caller, error),
        }
    }
}

impl Metrics {
    pub(super) fn count_refused(&self, caller: &Caller, error: &IssueError) {
        let cause = error.category().metric_label();
        self.refused.get_or_create(&RefusedLabels { cause }).inc();
        let (limit, reason) = match error {
            IssueError::Limited(Limited { whose, what, .. }) => (whose.key(), what.label()),
            IssueError::Hsm(SignError::Busy) => ("hsm_queue", "full"),
            IssueError::Hsm(SignError::ShareInUse(_)) => ("hsm_queue", "share"),
            IssueError::Hsm(SignError::TooLate { .. }) => ("hsm_queue", "late"),
            _ => return,
        };
        let labels = LimitedLabels {
            trust_domain: caller.trust_domain.to_string(),
            cluster: caller.cluster.clone().unwrap_or_default(),
            limit,
            reason,
        };
        self.limited.get_or_create(&labels).inc();
    }
}

/// An issuance between its record and its end.
#[derive(Debug)]
pub(super) struct InProgress {
    metrics: Metrics,
    started: Instant,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.metrics.in_progress.dec();
        let elapsed = self.started.elapsed().as_secs_f64();
        self.metrics.duration.observe(elapsed);
    }
}
