//! The issuer that Linkerd's identity controller signs with: a CA with a short lifetime below the one
//! in the HSM. Its key is in the cluster's etcd, not in an HSM; the short lifetime limits that risk.

use crate::controllers::config::LinkerdIssuer;
use crate::controllers::managed_secret::{CertificateRole, SecretSpec};
use crate::x509::{San, TrustDomain};

/// The profile of these certificates; policy has a rule for the configured names.
pub const LINKERD_ISSUER_PROFILE: &str = "linkerd-issuer";
/// The caller's name in rules and in the ledger.
pub const LINKERD_ISSUER_CALLER: &str = "local:linkerd-issuer";

pub(in crate::controllers) fn issuer_spec(
    issuer: &LinkerdIssuer,
    trust_domain: &TrustDomain,
) -> SecretSpec {
    let name = issuer.dns_name(trust_domain);
    SecretSpec {
        name: issuer.name().to_owned(),
        what: "the issuer of Linkerd's controller",
        namespace: issuer.control_namespace().to_owned(),
        secret: issuer.secret().to_owned(),
        names: name.map(San::Dns).into_iter().collect(),
        profile: LINKERD_ISSUER_PROFILE,
        purpose: "linkerd-issuer",
        role: CertificateRole::Ca {
            lifetime: issuer.lifetime(),
        },
    }
}
