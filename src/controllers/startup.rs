//! Begins everything that the configuration wants done in clusters.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::csr::CsrWork;
use super::dependencies::Dependencies;
use super::kept::Keeper;
use super::linkerd::Takers;
use super::pod::PodWork;
use super::{istiod, linkerd, signer};
use crate::cluster::Cluster;

/// Begins to work in every configured cluster, each apart from the others, until `stop`.
pub fn start(
    config: &Config,
    dependencies: &Dependencies,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for signer in config.csr_signers() {
        for cluster in clusters(dependencies, signer.clusters()) {
            let authorities = Arc::clone(&dependencies.authorities);
            let work = CsrWork::new(signer.clone(), cluster, authorities);
            signer::start(work, &dependencies.metrics, tasks, stop);
        }
    }
    for signer in config.pod_signers() {
        for cluster in clusters(dependencies, signer.clusters()) {
            let (authorities, clock) = (
                Arc::clone(&dependencies.authorities),
                Arc::clone(&dependencies.clock),
            );
            let work = PodWork::new(signer.clone(), cluster, authorities, clock);
            signer::start(work, &dependencies.metrics, tasks, stop);
        }
    }
    for istiod in config.istiod_tls() {
        if let Some(cluster) = dependencies.clusters.get(istiod.cluster()) {
            let terms = istiod::terms(istiod, cluster.config().trust_domain());
            let keeper = Keeper::new(terms, (), Arc::clone(cluster), dependencies);
            let stop = stop.clone();
            tasks.spawn(async move { keeper.keep(&stop).await });
        }
    }
    for issuer in config.linkerd_issuers() {
        let Some(cluster) = dependencies.clusters.get(issuer.cluster()) else {
            continue;
        };
        let terms = linkerd::terms(issuer, cluster.config().trust_domain());
        let takers = Arc::new(Takers::new(
            issuer,
            Arc::clone(cluster),
            &dependencies.metrics,
        ));
        let keeper = Keeper::new(
            terms,
            Arc::clone(&takers),
            Arc::clone(cluster),
            dependencies,
        );
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::join!(keeper.keep(&stop), takers.look(&stop));
        });
    }
}

/// Those clusters of a list that there are: the configuration has checked that it is all of them.
fn clusters<'a>(
    dependencies: &'a Dependencies,
    names: &'a [String],
) -> impl Iterator<Item = Arc<Cluster>> + 'a {
    names
        .iter()
        .filter_map(|name| dependencies.clusters.get(name).cloned())
}
