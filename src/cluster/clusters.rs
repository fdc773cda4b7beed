//! Every configured cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::collector::ClusterCollector;
use super::config::ClusterConfig;
use super::listener_clusters::ListenerClusters;
use super::metrics::Metrics;
use super::node_authorization::{NodeAuthorizationError, authorize_node};
use super::probe;
use crate::authn::{AuthnError, Caller, Quoted};
use crate::clock::Clock;
use crate::log_limit::Interval;
use crate::policy::{NodeAuthorization, NotAuthorized};
use crate::x509::SpiffeId;

/// Anyone can send unknown cluster ids.
const UNKNOWN_ID_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Every configured cluster, by name.
#[derive(Debug)]
pub struct Clusters {
    by_name: BTreeMap<String, Arc<Cluster>>,
    metrics: Metrics,
    unknown_ids: Interval,
}

impl Default for Clusters {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            metrics: Metrics::default(),
            unknown_ids: Interval::new(UNKNOWN_ID_LOG_INTERVAL),
        }
    }
}

impl Clusters {
    /// Connects to every cluster until `stop`. One that is unreachable delays no other and is retried.
    pub fn start(
        configs: &BTreeMap<String, ClusterConfig>,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let mut clusters = Self::default();
        let published = Arc::default();
        for (name, config) in configs {
            let cluster = Cluster::start(config, clock, &clusters.metrics, &published, tasks, stop);
            let cluster = Arc::new(cluster);
            tasks.spawn(probe::run(Arc::clone(&cluster), stop.clone()));
            clusters.by_name.insert(name.clone(), cluster);
        }
        clusters
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_name.values()
    }

    /// Registers the metrics of every cluster.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        registry.register_collector(Box::new(ClusterCollector(self.iter().cloned().collect())));
    }

    /// The cluster that authenticates a call with the `clusterid` `id`, which is empty when the call
    /// has none.
    pub fn select(
        &self,
        listener: &ListenerClusters,
        id: &str,
    ) -> Result<Arc<Cluster>, AuthnError> {
        let wanted = match (id, listener.default_name()) {
            ("", None) => {
                return Err(AuthnError::rejected(
                    "the call names no cluster (clusterid), and the listener has no default_cluster",
                ));
            }
            ("", Some(default)) => default,
            (id, _) => id,
        };
        // A cluster that was added by a reload is started with the next start.
        let accepted = || listener.names().iter().filter_map(|name| self.get(name));
        let found = accepted().find(|cluster| cluster.config().is_called(wanted));
        found.map(Arc::clone).ok_or_else(|| {
            let known: Vec<_> = accepted()
                .flat_map(|cluster| cluster.config().names())
                .collect();
            let known = known.join(" ");
            if let Some(suppressed) = self.unknown_ids.allow() {
                tracing::warn!(
                    clusterid = %Quoted(wanted), known, suppressed,
                    "a call names an unknown cluster"
                );
            }
            AuthnError::rejected(format_args!(
                "the clusterid {} names no cluster of this listener; known: {known}",
                Quoted(wanted)
            ))
        })
    }

    /// Authorizes `caller`, a proxy of its node, to get a certificate for `identity`, a workload on the
    /// same node.
    pub async fn authorize_node(
        &self,
        caller: &Caller,
        identity: &str,
    ) -> Result<NodeAuthorization, NodeAuthorizationError> {
        let identity = SpiffeId::parse(identity).map_err(NotAuthorized::from)?;
        let name = caller.cluster.as_deref();
        let cluster = name
            .filter(|_| caller.method.is_by_cluster())
            .and_then(|name| self.get(name))
            .ok_or(NotAuthorized::NoCluster)?;
        authorize_node(cluster, caller, &identity).await
    }
}
