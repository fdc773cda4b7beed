//! istiod's own certificate: the secret that it must find before it starts, when it has no CA of
//! its own.

use std::time::Duration;

use super::config::IstiodTls;
use super::managed_secret::{CertificateRole, SecretSpec};
use crate::x509::TrustDomain;

/// The profile of these certificates; policy has a rule for the names that the configuration gives.
pub const ISTIOD_PROFILE: &str = "istiod";
/// What the caller is called in rules and in the ledger.
pub const ISTIOD_CALLER: &str = "local:istiod";
/// Life of the certificate: long enough to outlast a long week-end without an HSM.
pub const ISTIOD_TTL: Duration = Duration::from_secs(7 * 86_400);

/// What istiod's secret is to hold.
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
