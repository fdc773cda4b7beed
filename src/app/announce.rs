//! Which clusters are told of the certificates that their Linkerd proxies get.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::Core;
use crate::cluster::{Clusters, Notices};
use crate::config::Config;
use crate::controllers;

/// Begins to tell the clusters of the listeners that ask for it, until `stop`.
pub(super) fn announce(
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
        .filter_map(|listener| listener.tells_events_to())
        .collect();
    names.sort_unstable();
    names.dedup();
    let told = names.into_iter().filter_map(|name| clusters.get(name));
    controllers::start_events(told.cloned(), &core.clock, metrics, tasks, stop)
}
