//! The rotations of roots and issuing CAs.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::core::Core;
use crate::cluster::Clusters;
use crate::config::Config;
use crate::controllers::linkerd::Proxies;
use crate::issuance::Authorities;
use crate::rotation::{ConfiguredTarget, Metrics, Parts, Rotations};
use crate::trust::{Bundles, Distribution};

pub(super) fn new(
    config: &Config,
    core: &Core,
    authorities: &Arc<Authorities>,
    (bundles, distribution): (&Arc<Bundles>, &Arc<Distribution>),
    clusters: &Clusters,
    registry: &mut Registry,
) -> Arc<Rotations> {
    let metrics = Metrics::default();
    metrics.register(registry);
    let targets = config.bundle_targets().iter().flat_map(|target| {
        target
            .clusters()
            .map(|cluster| ConfiguredTarget {
                cluster: cluster.to_owned(),
                target: target.name().to_owned(),
                trust_domain: target.trust_domain().clone(),
            })
            .collect::<Vec<_>>()
    });
    let held = config.bundle_targets().to_vec();
    let proxies = Proxies::new(config.bundle_targets(), clusters, bundles);
    let ceremonies = core.clone();
    Arc::new(Rotations::new(Parts {
        config: config.rotation().clone(),
        instance: config.instance().name().to_owned(),
        ledger: Arc::clone(&core.ledger),
        clock: Arc::clone(&core.clock),
        ceremony: Box::new(move |actor| ceremonies.ceremony(actor)),
        leases: core.pipeline.work_leases().clone(),
        authorities: Arc::clone(authorities),
        bundles: Arc::clone(bundles),
        distribution: Arc::clone(distribution),
        targets: targets.collect(),
        proxies: Box::new(move |domain| proxies.outdated(domain)),
        fits: Box::new(move |bundle| {
            let own = held
                .iter()
                .filter(|target| target.trust_domain() == bundle.trust_domain());
            own.filter_map(|target| target.can_hold(bundle).err())
                .collect()
        }),
        metrics,
        watchers: config.watchers().to_vec(),
    }))
}
