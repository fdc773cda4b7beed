//! The effective policy: the file's rules, and rules for certificates that this server itself needs:
//! its listeners', istiod's, and an issuer for Linkerd's controller.

use std::time::Duration;

use crate::config::Config;
use crate::controllers::linkerd::{LINKERD_ISSUER_CALLER, LINKERD_ISSUER_PROFILE};
use crate::controllers::{ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL};
use crate::mesh::SERVING_PROFILE;
use crate::policy::Policy;
use crate::x509::San;

/// Lifetime of a listener's certificate: long enough for an outage of the HSM of several days.
const LISTENER_TTL: Duration = Duration::from_secs(7 * 86_400);

/// The policy of `config`, and rules for this server's own certificates by the configuration it was
/// started with: changes to those need a restart.
pub(super) fn effective_policy(config: &Config, started: &Config) -> Policy {
    let mut policy = config.policy().clone();
    let listeners = started.listeners().iter();
    for own in listeners.flat_map(|listener| listener.tls().own()) {
        policy = policy.with_rule_for_own_names(
            "local:serving",
            SERVING_PROFILE,
            LISTENER_TTL,
            &own.names,
        );
    }
    for istiod in started.controllers().istiod_tls() {
        if let Some(cluster) = started.clusters().get(istiod.cluster()) {
            let names = istiod.names(cluster.trust_domain());
            policy =
                policy.with_rule_for_own_names(ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL, &names);
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
            policy = policy.with_rule_for_own_names(caller, profile, issuer.lifetime(), &names);
        }
    }
    policy.into_policy()
}
