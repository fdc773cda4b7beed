//! Fetches of other trust domains' bundles.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock::UnixTime;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    federation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    federation: String,
    result: Outcome,
}

/// The label's values are these names.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    fetched,
    /// The endpoint did not answer with a document, or is not who it should be.
    unreachable,
    /// Its document is not taken.
    refused,
}

/// Clones share the values.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    fetches: Family<FetchLabels, Counter>,
    fetched_at: Family<Labels, Gauge>,
    anchors: Family<Labels, Gauge>,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "federation_fetches",
            "Fetches of the trust bundles of other trust domains",
            self.fetches.clone(),
        );
        registry.register(
            "federation_fetched_timestamp_seconds",
            "When the bundle was last fetched and taken, seconds since 1970",
            self.fetched_at.clone(),
        );
        registry.register(
            "federation_anchors",
            "Roots of the other trust domain that are in use",
            self.anchors.clone(),
        );
    }

    /// Counts from zero: a counter that begins at one shows no growth.
    pub(super) fn begin(&self, federation: &str) {
        for result in [Outcome::fetched, Outcome::unreachable, Outcome::refused] {
            self.fetch(federation, result);
        }
        let labels = labels(federation);
        self.fetched_at.get_or_create(&labels).set(0);
        self.anchors.get_or_create(&labels).set(0);
    }

    pub(super) fn count(&self, federation: &str, result: Outcome) {
        self.fetch(federation, result).inc();
    }

    pub(super) fn fetched(&self, federation: &str, at: UnixTime) {
        self.fetched_at
            .get_or_create(&labels(federation))
            .set(at.secs());
    }

    pub(super) fn in_use(&self, federation: &str, anchors: usize) {
        let anchors = i64::try_from(anchors).unwrap_or(i64::MAX);
        self.anchors.get_or_create(&labels(federation)).set(anchors);
    }

    fn fetch(&self, federation: &str, result: Outcome) -> Counter {
        self.fetches.get_or_create_owned(&FetchLabels {
            federation: federation.to_owned(),
            result,
        })
    }
}

fn labels(federation: &str) -> Labels {
    Labels {
        federation: federation.to_owned(),
    }
}
