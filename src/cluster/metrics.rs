//! What is counted of clusters. No label ever holds a name of a workload.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::callers::VerificationMode;
use super::{Cluster, Clusters};
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

/// Counters of authentication by clusters; clones share them.
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
            // 50 µs, an elliptic signature here, to 13 s, past a TokenReview's deadline.
            duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.00005, 2.0, 19))
            }),
            fell_back: Family::default(),
        }
    }
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_tokens",
            "Tokens of a cluster that were verified, by verification and result",
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

    pub(super) fn fell_back(&self, cluster: &str) {
        let labels = ClusterLabel {
            cluster: cluster.to_owned(),
        };
        self.fell_back.get_or_create(&labels).inc();
    }
}

/// The gauges, read when they are asked for.
#[derive(Debug)]
pub(super) struct ClusterCollector(pub(super) Vec<Arc<Cluster>>);

impl Clusters {
    /// Puts every cluster's state under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        registry.register_collector(Box::new(ClusterCollector(self.iter().cloned().collect())));
    }
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        gauge(
            &mut encoder,
            "cluster_up",
            "1 when the API server answered the last probe",
            self.0.iter().map(|c| (c, i64::from(c.is_up()))),
        )?;
        let indexed = || self.0.iter().filter_map(|c| Some((c, c.index()?)));
        gauge(
            &mut encoder,
            "cluster_watch_silent_seconds",
            "Seconds since the API server last told of pods or accounts; -1 before the first list",
            indexed().map(|(c, index)| {
                let silent = index.silent_for().map(|silent| silent.as_secs());
                (
                    c,
                    silent
                        .and_then(|secs| i64::try_from(secs).ok())
                        .unwrap_or(-1),
                )
            }),
        )?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        gauge(
            &mut encoder,
            "cluster_pods",
            "Pods in the index",
            indexed().map(|(c, index)| (c, count(index.counts().0))),
        )?;
        gauge(
            &mut encoder,
            "cluster_service_accounts",
            "Service accounts in the index",
            indexed().map(|(c, index)| (c, count(index.counts().1))),
        )
    }
}

fn gauge<'c>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'c Arc<Cluster>, i64)>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (cluster, value) in values {
        let labels = [("cluster", cluster.config().name())];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
