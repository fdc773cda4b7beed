//! Kubernetes clusters, as Rootbridge sees them from outside: how each is reached, and what its API
//! server says. What is written there is the business of `controllers`.

mod api;
mod authenticate;
mod callers;
mod config;
mod connection;
mod error;
mod follower;
mod index;
mod inspector;
mod metrics;
mod names;
mod node_authorization;
mod notices;
mod offline;
mod permission;
mod probe;
mod selection;
mod token_review;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use api::{ApiClient, ApiError, Collection};
pub use callers::{CallersConfig, RawClusterAudiences, VerificationMode};
pub use config::{ClusterConfig, RawCluster, check_clusters, clusters};
pub use connection::Connection;
pub use error::ClusterUnavailable;
pub use follower::{Follower, Source, Versioned, WATCH_TIME, WatchEvent};
pub use index::{AccountRecord, Index, PodRecord};
pub use inspector::{AudienceCheck, Inspector, ServerInfo};
use metrics::Metrics;
pub(crate) use names::{is_label, is_subdomain};
pub use node_authorization::NodeAuthorizationError;
pub use notices::{Notice, Notices};
use offline::OfflineVerifier;
pub use permission::Permission;
pub use selection::ListenerClusters;
use token_review::TokenReviewer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::KeyCacheReport;
use crate::clock::Clock;

/// Every configured cluster, by name.
#[derive(Debug, Default)]
pub struct Clusters {
    by_name: BTreeMap<String, Arc<Cluster>>,
    metrics: Metrics,
    unknown: selection::UnknownIdLog,
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    reviewer: TokenReviewer,
    /// Only where something needs it: to list all pods is a right of its own.
    index: Option<Index>,
    offline: Option<OfflineVerifier>,
    up: AtomicBool,
    metrics: Metrics,
}

impl Clusters {
    /// Begins to reach every cluster; one that is not to be reached holds up nobody, and is tried
    /// again until `stop`.
    pub fn start(
        configs: &BTreeMap<String, ClusterConfig>,
        clock: &Arc<dyn Clock>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let metrics = Metrics::default();
        let by_name = configs.iter().map(|(name, config)| {
            let connection = Arc::new(Connection::new(config.clone()));
            tasks.spawn(Arc::clone(&connection).follow_kubeconfig(stop.clone()));
            let callers = config.callers();
            let index = callers
                .needs_index()
                .then(|| Index::start(config, &connection, tasks, stop));
            let offline = (callers.any() && callers.mode() == VerificationMode::Offline)
                .then(|| OfflineVerifier::start(name, &connection, callers.watch_silence(), clock));
            let cluster = Arc::new(Cluster {
                config: config.clone(),
                reviewer: TokenReviewer::new(callers),
                connection,
                clock: Arc::clone(clock),
                index,
                offline,
                up: AtomicBool::new(false),
                metrics: metrics.clone(),
            });
            tasks.spawn(probe::run(Arc::clone(&cluster), stop.clone()));
            (name.clone(), cluster)
        });
        Self {
            by_name: by_name.collect(),
            metrics,
            unknown: selection::UnknownIdLog::default(),
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
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Its pods and service accounts; `None` where nothing needs them.
    pub fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Its API server's published keys; `None` where tokens are not verified by them.
    pub fn keys(&self) -> Option<KeyCacheReport> {
        self.offline.as_ref().map(OfflineVerifier::report)
    }

    /// Whether its API server answered the last probe.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}
