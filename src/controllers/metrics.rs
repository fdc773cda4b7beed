//! What the signers count. No label ever holds a name of a workload.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    signer: String,
    cluster: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    signer: String,
    cluster: String,
}

/// Counters of the signers; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    objects: Family<ResultLabels, Counter>,
    watches: Family<WatchLabels, Gauge>,
    waiting: Family<WatchLabels, Gauge>,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_objects",
            "Objects of clusters that were handled, by result",
            self.objects.clone(),
        );
        registry.register(
            "cluster_watch_up",
            "1 while the watch of a signer's objects stands",
            self.watches.clone(),
        );
        registry.register(
            "cluster_objects_waiting",
            "Objects that wait to be handled or are worked on",
            self.waiting.clone(),
        );
    }

    pub(super) fn count(&self, signer: &str, cluster: &str, result: &'static str) {
        let labels = ResultLabels {
            signer: signer.to_owned(),
            cluster: cluster.to_owned(),
            result,
        };
        self.objects.get_or_create(&labels).inc();
    }

    pub(super) fn watch(&self, signer: &str, cluster: &str, up: bool) {
        self.watches
            .get_or_create(&labels(signer, cluster))
            .set(i64::from(up));
    }

    pub(super) fn waiting(&self, signer: &str, cluster: &str, count: usize) {
        self.waiting
            .get_or_create(&labels(signer, cluster))
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn labels(signer: &str, cluster: &str) -> WatchLabels {
    WatchLabels {
        signer: signer.to_owned(),
        cluster: cluster.to_owned(),
    }
}
