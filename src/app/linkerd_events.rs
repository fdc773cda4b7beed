//! Kubernetes events about the certificates that Linkerd's proxies get.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::Core;
use crate::cluster::{Clusters, Notices};
use crate::config::Config;
use crate::controllers;

/// Starts writing events, until `stop`, in the clusters of listeners with `linkerd.events`. Returns
/// the channels by which the Linkerd API reports what it issued.
pub(super) fn start(
    config: &Config,
    core: &Core,
    clusters: &Clusters,
    metrics: &controllers::Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Notices {
    let mut names: Vec<_> = config
        .listeners()
        .iter()
        .filter_map(|listener| listener.events_cluster())
        .collect();
    names.sort_unstable();
    names.dedup();
    let clusters = names.into_iter().filter_map(|name| clusters.get(name));
    controllers::start_events(clusters.cloned(), &core.clock, metrics, tasks, stop)
}
