//! Metrics of the controllers. No label contains a workload's name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::UnixTime;

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    cluster: String,
    result: &'static str,
}

/// Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    objects: Family<ResultLabels, Counter>,
    watches: Family<WatchLabels, Gauge>,
    waiting: Family<WatchLabels, Gauge>,
    issuer_accepted: Family<IssuerLabels, Gauge>,
    issuer_not_after: Family<IssuerLabels, Gauge>,
    events: Family<EventLabels, Counter>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_objects",
            "Objects of clusters that were handled, by result",
            self.objects.clone(),
        );
        registry.register(
            "cluster_watch_up",
            "1 while the watch of a signer's objects is up to date",
            self.watches.clone(),
        );
        registry.register(
            "cluster_objects_waiting",
            "Objects that wait to be handled or are in progress",
            self.waiting.clone(),
        );
        registry.register(
            "linkerd_issuer_taken",
            "1 once Linkerd's controller reported that it accepted the last issuer written for it",
            self.issuer_accepted.clone(),
        );
        registry.register_with_unit(
            "linkerd_issuer_not_after_timestamp",
            "notAfter of the issuer that was written for Linkerd's controller",
            Unit::Seconds,
            self.issuer_not_after.clone(),
        );
        registry.register(
            "linkerd_events",
            "Events of issued certificates, by result",
            self.events.clone(),
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

    pub(super) fn events(&self, cluster: &str, result: &'static str) -> Counter {
        let labels = EventLabels {
            cluster: cluster.to_owned(),
            result,
        };
        self.events.get_or_create_owned(&labels)
    }

    pub(super) fn issuer_accepted(&self, issuer: &str, cluster: &str, accepted: bool) {
        let labels = issuer_labels(issuer, cluster);
        self.issuer_accepted
            .get_or_create(&labels)
            .set(i64::from(accepted));
    }

    pub(super) fn issuer_not_after(&self, issuer: &str, cluster: &str, at: UnixTime) {
        let labels = issuer_labels(issuer, cluster);
        self.issuer_not_after.get_or_create(&labels).set(at.secs());
    }

    pub(super) fn waiting(&self, signer: &str, cluster: &str, count: usize) {
        self.waiting
            .get_or_create(&labels(signer, cluster))
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn issuer_labels(issuer: &str, cluster: &str) -> IssuerLabels {
    IssuerLabels {
        issuer: issuer.to_owned(),
        cluster: cluster.to_owned(),
    }
}

fn labels(signer: &str, cluster: &str) -> WatchLabels {
    WatchLabels {
        signer: signer.to_owned(),
        cluster: cluster.to_owned(),
    }
}
