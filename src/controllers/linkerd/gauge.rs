//! How many of the pods with a proxy from Linkerd's injector hold the current trust roots, and how
//! many older ones, counted from the index of the watched pods when metrics are collected.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::workloads::Counts;
use crate::cluster::{Cluster, Clusters, PodRecord};
use crate::controllers::publisher::TargetConfig;
use crate::digest::{hex, sha256};
use crate::trust::Bundles;
use crate::x509::TrustDomain;

/// Registers the count of each cluster that has a target for Linkerd's roots and whose pods are
/// watched.
pub fn register_pods(
    targets: &[TargetConfig],
    clusters: &Clusters,
    bundles: &Arc<Bundles>,
    registry: &mut Registry,
) {
    let targets = targets.iter().filter(|each| each.holds_linkerd_roots());
    let counted = targets.flat_map(|target| {
        let clusters = target.clusters().filter_map(|name| clusters.get(name));
        let indexed = clusters.filter(|cluster| cluster.index().is_some());
        indexed.map(|cluster| (Arc::clone(cluster), target.trust_domain().clone()))
    });
    let counted: Vec<_> = counted.collect();
    if !counted.is_empty() {
        let bundles = Arc::clone(bundles);
        registry.register_collector(Box::new(Pods { counted, bundles }));
    }
}

/// Counts pods at each collection.
#[derive(Debug)]
struct Pods {
    /// The clusters in which pods are counted, each with the trust domain of their roots.
    counted: Vec<(Arc<Cluster>, TrustDomain)>,
    bundles: Arc<Bundles>,
}

impl Pods {
    fn count(&self, cluster: &Cluster, trust_domain: &TrustDomain) -> Option<Counts> {
        let index = cluster.index()?;
        // `None`: the first list of pods is not complete.
        index.time_since_contact()?;
        // The roots as the ConfigMap of the target holds them once they are published; a pod is
        // annotated with the SHA-256 of those that its proxy was started with.
        let published = self.bundles.current(trust_domain)?;
        let current_roots = hex(&sha256(published.pem.as_bytes()));
        let mut counts = Counts::default();
        index.for_each_pod(|pod: &PodRecord| {
            if pod.has_ended() || !pod.is_injected_by_linkerd() {
                return;
            }
            match pod.trust_root() {
                Some(held) if held == current_roots => counts.current += 1,
                Some(_) => counts.old += 1,
                None => counts.unknown += 1,
            }
        });
        Some(counts)
    }
}

impl Collector for Pods {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Pods with a proxy from Linkerd's injector, by the roots that it holds";
        let mut family =
            encoder.encode_descriptor("linkerd_pods", help, None, MetricType::Gauge)?;
        for (cluster, trust_domain) in &self.counted {
            let Some(counts) = self.count(cluster, trust_domain) else {
                continue;
            };
            let states = [
                ("current", counts.current),
                ("old", counts.old),
                ("unknown", counts.unknown),
            ];
            for (state, count) in states {
                let labels = [("cluster", cluster.config().name()), ("state", state)];
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
