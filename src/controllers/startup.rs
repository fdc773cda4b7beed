//! Starts the configured controllers.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::csr::CsrSigning;
use super::dependencies::Dependencies;
use super::linkerd::IssuerAcceptance;
use super::managed_secret::ManagedSecret;
use super::pod::PodSigning;
use super::{istiod, linkerd, signer};
use crate::cluster::Cluster;

/// Starts the signers, the Secret of istiod and the Secret of Linkerd's issuer in each of their
/// clusters, until `stop`.
pub fn start(
    config: &Config,
    dependencies: &Dependencies,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for signer in config.csr_signers() {
        for cluster in clusters(dependencies, signer.clusters()) {
            let authorities = Arc::clone(&dependencies.authorities);
            let signing = CsrSigning::new(signer.clone(), cluster, authorities);
            signer::start(signing, &dependencies.metrics, tasks, stop);
        }
    }
    for signer in config.pod_signers() {
        for cluster in clusters(dependencies, signer.clusters()) {
            let (authorities, clock) = (
                Arc::clone(&dependencies.authorities),
                Arc::clone(&dependencies.clock),
            );
            let signing = PodSigning::new(signer.clone(), cluster, authorities, clock);
            signer::start(signing, &dependencies.metrics, tasks, stop);
        }
    }
    for istiod in config.istiod_tls() {
        if let Some(cluster) = dependencies.clusters.get(istiod.cluster()) {
            let spec = istiod::secret_spec(istiod, cluster.config().trust_domain());
            // Nothing reports whether istiod uses the Secret.
            let no_acceptance = ();
            let secret = ManagedSecret::new(spec, no_acceptance, Arc::clone(cluster), dependencies);
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

/// The clusters of these names, all of which exist in a checked configuration.
fn clusters<'a>(
    dependencies: &'a Dependencies,
    names: &'a [String],
) -> impl Iterator<Item = Arc<Cluster>> + 'a {
    names
        .iter()
        .filter_map(|name| dependencies.clusters.get(name).cloned())
}
