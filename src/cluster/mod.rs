//! Kubernetes clusters, as Rootbridge sees them from outside: how each is reached, and what its API
//! server says. What is written there is the business of `controllers`.

mod config;
mod error;
mod link;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use config::{ClusterConfig, RawCluster, clusters};
pub use error::{ConfigError, Down};
pub use link::Link;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every configured cluster, by name.
#[derive(Debug, Default)]
pub struct Clusters {
    by_name: BTreeMap<String, Arc<Cluster>>,
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    link: Arc<Link>,
}

impl Clusters {
    /// Begins to reach every cluster; one that is not to be reached holds up nobody, and is tried
    /// again until `stop`.
    pub fn start(
        configs: &BTreeMap<String, ClusterConfig>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let by_name = configs.iter().map(|(name, config)| {
            let link = Arc::new(Link::new(config.clone()));
            tasks.spawn(Arc::clone(&link).keep(stop.clone()));
            let cluster = Cluster {
                config: config.clone(),
                link,
            };
            (name.clone(), Arc::new(cluster))
        });
        Self {
            by_name: by_name.collect(),
        }
    }

    /// The cluster of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }

    /// Every cluster.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_name.values()
    }
}

impl Cluster {
    /// `[clusters.NAME]`.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// How its API server is reached.
    pub fn link(&self) -> &Link {
        &self.link
    }
}
