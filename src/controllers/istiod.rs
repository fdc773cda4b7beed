//! istiod's serving certificate: a secret that must exist before istiod starts, when it has no CA of
//! its own.

use std::time::Duration;

use super::config::IstiodTls;
use super::managed_secret::{CertificateRole, SecretSpec};
use crate::x509::TrustDomain;

/// The profile of these certificates; policy has a rule for the configured names.
pub const ISTIOD_PROFILE: &str = "istiod";
/// The caller's name in rules and in the ledger.
pub const ISTIOD_CALLER: &str = "local:istiod";
/// Long enough for a long weekend without an HSM.
pub const ISTIOD_TTL: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn secret_spec(config: &IstiodTls, trust_domain: &TrustDomain) -> SecretSpec {
    SecretSpec {
        name: config.name.clone(),
        what: "istiod's certificate",
        namespace: config.namespace.clone(),
        secret: config.secret.clone(),
        names: config.names(trust_domain),
        profile: ISTIOD_PROFILE,
        purpose: "istiod",
        role: CertificateRole::Leaf,
    }
}
