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
use crate::trust::rotation::ProxyEvidence;
use crate::x509::TrustDomain;

/// How many outdated pods are named.
const EXAMPLES: usize = 5;

/// Registers the count of each cluster that has a target for Linkerd's roots and whose pods are
/// watched.
pub fn register_pods(
    targets: &[TargetConfig],
    clusters: &Clusters,
    bundles: &Arc<Bundles>,
    registry: &mut Registry,
) {
    let mut counted = with_roots(targets, clusters);
    counted.retain(|(cluster, _)| cluster.index().is_some());
    if !counted.is_empty() {
        let bundles = Arc::clone(bundles);
        registry.register_collector(Box::new(Pods { counted, bundles }));
    }
}

/// The clusters with a target for Linkerd's roots, each with the trust domain of these.
fn with_roots(targets: &[TargetConfig], clusters: &Clusters) -> Vec<(Arc<Cluster>, TrustDomain)> {
    let targets = targets.iter().filter(|each| each.holds_linkerd_roots());
    let found = targets.flat_map(|target| {
        let clusters = target.clusters().filter_map(|name| clusters.get(name));
        clusters.map(|cluster| (Arc::clone(cluster), target.trust_domain().clone()))
    });
    found.collect()
}

/// Linkerd's proxies, as far as they were started without the published bundle.
#[derive(Debug)]
pub struct Proxies(Pods);

impl Proxies {
    pub fn new(targets: &[TargetConfig], clusters: &Clusters, bundles: &Arc<Bundles>) -> Self {
        Self(Pods {
            counted: with_roots(targets, clusters),
            bundles: Arc::clone(bundles),
        })
    }

    /// Of a trust domain, by cluster.
    pub fn outdated(&self, trust_domain: &TrustDomain) -> Vec<ProxyEvidence> {
        let counted = self.0.counted.iter();
        let of_domain = counted.filter(|(_, domain)| domain == trust_domain);
        let evidence = of_domain.map(|(cluster, domain)| {
            let mut examples = Vec::new();
            let counts = self.0.count(cluster, domain, |pod| {
                if examples.len() < EXAMPLES {
                    examples.push(format!("{}/{}", pod.namespace(), pod.name()));
                }
            });
            ProxyEvidence {
                cluster: cluster.config().name().to_owned(),
                outdated: counts.map(|counts| counts.old + counts.unknown),
                examples,
            }
        });
        evidence.collect()
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
    /// `outdated` is called with each pod that does not hold the published roots.
    fn count(
        &self,
        cluster: &Cluster,
        trust_domain: &TrustDomain,
        mut outdated: impl FnMut(&PodRecord),
    ) -> Option<Counts> {
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
                held => {
                    outdated(pod);
                    match held {
                        Some(_) => counts.old += 1,
                        None => counts.unknown += 1,
                    }
                }
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
            let Some(counts) = self.count(cluster, trust_domain, |_| {}) else {
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
