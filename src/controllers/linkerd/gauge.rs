//! How many of Linkerd's injected pods hold which roots, counted from the pod index when metrics are
//! collected.

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
    let meshes = targets.flat_map(|target| {
        let clusters = target.clusters().filter_map(|name| clusters.get(name));
        let indexed = clusters.filter(|cluster| cluster.index().is_some());
        indexed.map(|cluster| (Arc::clone(cluster), target.trust_domain().clone()))
    });
    let meshes: Vec<_> = meshes.collect();
    if !meshes.is_empty() {
        let bundles = Arc::clone(bundles);
        registry.register_collector(Box::new(Pods { meshes, bundles }));
    }
}

#[derive(Debug)]
struct Pods {
    meshes: Vec<(Arc<Cluster>, TrustDomain)>,
    bundles: Arc<Bundles>,
}

impl Pods {
    fn count(&self, cluster: &Cluster, trust_domain: &TrustDomain) -> Option<Counts> {
        let index = cluster.index()?;
        // The first list is not complete.
        index.silent_for()?;
        // What the ConfigMap holds once it is published.
        let published = self.bundles.current(trust_domain)?;
        let roots = hex(&sha256(published.pem.as_bytes()));
        let mut counts = Counts::default();
        index.each_pod(|pod: &PodRecord| {
            if pod.has_ended() || !pod.is_injected_by_linkerd() {
                return;
            }
            match pod.trust_root() {
                Some(held) if held == roots => counts.current += 1,
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
        for (cluster, trust_domain) in &self.meshes {
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
