//! What issuance counts. No label ever holds a name of a workload.

use std::future::Future;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::error::IssueError;
use super::leaf::{IssuanceRequest, Issued};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuedLabels {
    trust_domain: String,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    cause: &'static str,
}

/// Counters of the straight line; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    issued: Family<IssuedLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    duration: Histogram,
    under_way: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            issued: Family::default(),
            refused: Family::default(),
            // 0.5 ms to 8 s: from an idle SoftHSM to past the HSM's deadline.
            duration: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            under_way: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "certificates_issued",
            "Certificates that were signed, concluded and answered",
            self.issued.clone(),
        );
        registry.register(
            "certificates_refused",
            "Requests that ended without a certificate, by cause",
            self.refused.clone(),
        );
        registry.register_with_unit(
            "sign_duration",
            "From intent to conclusion, the HSM included",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "issuances_under_way",
            "Walks between intent and conclusion that a caller waits for",
            self.under_way.clone(),
        );
    }

    pub(super) async fn time_signing<T>(&self, walk: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        self.under_way.inc();
        let out = walk.await;
        self.under_way.dec();
        self.duration.observe(begun.elapsed().as_secs_f64());
        out
    }

    pub(super) fn count(&self, request: &IssuanceRequest, outcome: &Result<Issued, IssueError>) {
        match outcome {
            Ok(_) => {
                let labels = IssuedLabels {
                    trust_domain: request.caller.trust_domain.to_string(),
                    method: request.caller.method.name(),
                };
                self.issued.get_or_create(&labels).inc();
            }
            Err(error) => {
                self.refused
                    .get_or_create(&RefusedLabels {
                        cause: cause(error),
                    })
                    .inc();
            }
        }
    }
}

fn cause(error: &IssueError) -> &'static str {
    match error {
        IssueError::Denied(_) | IssueError::TtlTooShort { .. } => "denied",
        IssueError::KeyReserved => "key_taken",
        IssueError::NoAuthority(_)
        | IssueError::NotReady { .. }
        | IssueError::IssuerExpiring { .. } => "not_ready",
        IssueError::Hsm(_) | IssueError::Timeout(_) => "hsm",
        IssueError::Ledger(_) => "ledger",
        IssueError::IdempotencyKeyConflict(_)
        | IssueError::IdempotencyKeyExpired(_)
        | IssueError::IdempotencyKeyPending(_) => "origin",
        IssueError::Build(_)
        | IssueError::Check(_)
        | IssueError::Malformed(_)
        | IssueError::TaskFailed => "internal",
    }
}
