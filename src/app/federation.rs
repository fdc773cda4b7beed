//! The bundles of other trust domains: what is published, and who follows their endpoints.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::core::Core;
use crate::config::Config;
use crate::federation::{FederationConfig, Follower, Metrics};
use crate::trust::{Bundles, PublishedBundles};

/// This server's bundles, with a place for those of `[federation.*]`.
pub(super) fn publish(config: &Config, own: &Arc<Bundles>) -> Arc<PublishedBundles> {
    let federated = config
        .federation()
        .iter()
        .map(FederationConfig::trust_domain);
    let federated = federated.cloned().collect();
    Arc::new(PublishedBundles::new(Arc::clone(own), federated))
}

/// One for each endpoint.
pub(super) fn followers(
    config: &Config,
    core: &Core,
    published: &Arc<PublishedBundles>,
    registry: &mut Registry,
) -> Vec<Follower> {
    let metrics = Metrics::default();
    metrics.register(registry);
    let directory = config.ledger().high_water_directory();
    let each = config.federation().iter().map(|one| {
        Follower::new(
            one.clone(),
            (directory, config.instance().name()),
            Arc::clone(published),
            Arc::clone(&core.clock),
            metrics.clone(),
        )
    });
    each.collect()
}
