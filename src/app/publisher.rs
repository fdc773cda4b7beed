//! Starts publishing trust bundles to clusters.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::Core;
use crate::cluster::Clusters;
use crate::config::Config;
use crate::controllers::publisher::{self, Dependencies};
use crate::trust::{Distribution, PublishedBundles};

/// Returns the state of the rollout.
pub(super) fn start(
    config: &Config,
    core: &Core,
    bundles: &Arc<PublishedBundles>,
    clusters: &Clusters,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Arc<Distribution> {
    let distribution = Arc::new(Distribution::default());
    let ledger = Arc::clone(&core.ledger);
    let leases = core.pipeline.work_leases().clone();
    let (published, clock) = (Arc::clone(bundles), Arc::clone(&core.clock));
    let dependencies = Dependencies {
        config: config.publisher().clone(),
        instance: config.instance().name().to_owned(),
        bundles: Arc::clone(bundles),
        distribution: Arc::clone(&distribution),
        record: Box::new(move |rollout, lease| {
            let (ledger, leases) = (Arc::clone(&ledger), leases.clone());
            // The ledger has this server's own bundles, and no rotation waits for another one.
            if published.is_federated(&rollout.trust_domain) {
                let now = clock.now();
                return Box::pin(async move { Ok(now) });
            }
            Box::pin(async move {
                let work = format!("bundles/{}", rollout.cluster);
                let lease = lease.get_or_try_init(|| leases.seize(&work)).await?;
                ledger.record_rollout(rollout, Some(lease)).await
            })
        }),
        clock: Arc::clone(&core.clock),
    };
    publisher::start(dependencies, config.bundle_targets(), clusters, tasks, stop);
    distribution
}
