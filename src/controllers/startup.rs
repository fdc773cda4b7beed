//! Begins everything that the configuration wants done in clusters.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::csr::CsrWork;
use super::dependencies::Dependencies;
use super::linkerd::IssuerAcceptance;
use super::managed_secret::ManagedSecret;
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
            let spec = istiod::secret_spec(istiod, cluster.config().trust_domain());
            let secret = ManagedSecret::new(spec, (), Arc::clone(cluster), dependencies);
            let stop = stop.clone();
            tasks.spawn(async move { secret.run(&stop).await });
        }
    }
    for issuer in config.linkerd_issuers() {
        let Some(cluster) = dependencies.clusters.get(issuer.cluster()) else {
            continue;
        };
        let spec = linkerd::issuer_spec(issuer, cluster.config().trust_domain());
        let acceptance = Arc::new(IssuerAcceptance::new(
            issuer,
            Arc::clone(cluster),
            &dependencies.metrics,
        ));
        let secret = ManagedSecret::new(
            spec,
            Arc::clone(&acceptance),
            Arc::clone(cluster),
            dependencies,
        );
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::join!(secret.run(&stop), acceptance.run(&stop));
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
