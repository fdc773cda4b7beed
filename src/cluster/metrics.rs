//! Counters of token verification. No label holds a name of a workload.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::raw::VerificationMode;
use crate::authn::AuthnError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    cluster: String,
    verification: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    cluster: String,
    verification: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

/// Clones share the counters.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    tokens: Family<TokenLabels, Counter>,
    duration: Family<DurationLabels, Histogram, fn() -> Histogram>,
    fell_back: Family<ClusterLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            tokens: Family::default(),
            // 50 µs (an ECDSA verification) to 13 s (past a TokenReview's deadline).
            duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.00005, 2.0, 19))
            }),
            fell_back: Family::default(),
        }
    }
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_tokens",
            "Tokens of a cluster that were verified, by verification (token_review or offline) and result",
            self.tokens.clone(),
        );
        registry.register_with_unit(
            "cluster_token_duration",
            "How long verifying a token took",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "cluster_tokens_fell_back",
            "Tokens that could not be verified offline and went to TokenReview",
            self.fell_back.clone(),
        );
    }

    pub(super) fn count<T>(
        &self,
        cluster: &str,
        verification: VerificationMode,
        outcome: &Result<T, AuthnError>,
        started: Instant,
    ) {
        let verification = match verification {
            VerificationMode::TokenReview => "token_review",
            VerificationMode::Offline => "offline",
        };
        let labels = TokenLabels {
            cluster: cluster.to_owned(),
            verification,
            result: match outcome {
                Ok(_) => "accepted",
                Err(AuthnError::Busy { .. }) => "too_many",
                Err(AuthnError::Unavailable(_) | AuthnError::Timeout(_)) => "cannot_tell",
                Err(_) => "rejected",
            },
        };
        self.tokens.get_or_create(&labels).inc();
        let labels = DurationLabels {
            cluster: labels.cluster,
            verification,
        };
        let duration = started.elapsed().as_secs_f64();
        self.duration.get_or_create(&labels).observe(duration);
    }

    /// A token that was refused without a question.
    pub(super) fn screened(&self, cluster: &str) {
        let labels = TokenLabels {
            cluster: cluster.to_owned(),
            verification: "none",
            result: "rejected",
        };
        self.tokens.get_or_create(&labels).inc();
    }

    pub(super) fn fell_back(&self, cluster: &str) {
        let labels = ClusterLabel {
            cluster: cluster.to_owned(),
        };
        self.fell_back.get_or_create(&labels).inc();
    }
}
