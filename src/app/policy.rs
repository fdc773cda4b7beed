//! The policy in force: what the file allows others, and what this server itself needs: its
//! listeners' certificates, istiod's, and an issuer for Linkerd's controller.

use std::time::Duration;

use crate::config::Config;
use crate::controllers::linkerd::{LINKERD_ISSUER_CALLER, LINKERD_ISSUER_PROFILE};
use crate::controllers::{ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL};
use crate::mesh::SERVING_PROFILE;
use crate::policy::Policy;
use crate::x509::San;

/// Life of a listener's own certificate: long enough to outlast a long week-end without an HSM.
const SERVING_TTL: Duration = Duration::from_secs(7 * 86_400);

/// The policy of `config`, and what this server itself has by what it was started with. What another
/// file would give it begins with a restart.
pub(super) fn in_force(config: &Config, started: &Config) -> Policy {
    let mut policy = config.policy().clone();
    let listeners = started.listeners().iter();
    for own in listeners.flat_map(|listener| listener.tls().own()) {
        policy = policy.with_own_names("local:serving", SERVING_PROFILE, SERVING_TTL, &own.names);
    }
    for istiod in started.controllers().istiod_tls() {
        if let Some(cluster) = started.clusters().get(istiod.cluster()) {
            let names = istiod.names(cluster.trust_domain());
            policy = policy.with_own_names(ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL, &names);
        }
    }
    for issuer in started.controllers().linkerd_issuers() {
        if let Some(cluster) = started.clusters().get(issuer.cluster()) {
            let names: Vec<_> = issuer
                .dns_name(cluster.trust_domain())
                .map(San::Dns)
                .into_iter()
                .collect();
            let (caller, profile) = (LINKERD_ISSUER_CALLER, LINKERD_ISSUER_PROFILE);
            policy = policy.with_own_names(caller, profile, issuer.lifetime(), &names);
        }
    }
    policy.into_policy()
}
