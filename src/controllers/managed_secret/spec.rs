//! The specification of a managed secret.

use std::time::Duration;

use crate::x509::San;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controllers) struct SecretSpec {
    /// The section's name in the configuration, for logs and metrics.
    pub(in crate::controllers) name: String,
    /// For the log: `istiod's certificate`.
    pub(in crate::controllers) what: &'static str,
    pub(in crate::controllers) namespace: String,
    pub(in crate::controllers) secret: String,
    /// The certificate's subject alternative names.
    pub(in crate::controllers) names: Vec<San>,
    pub(in crate::controllers) profile: &'static str,
    /// The caller's name after `local:`.
    pub(in crate::controllers) purpose: &'static str,
    pub(in crate::controllers) role: CertificateRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controllers) enum CertificateRole {
    /// An end entity's, with the lifetime of its profile.
    Leaf,
    /// A CA's with path length 0.
    Ca {
        /// The requested lifetime, which its profile and the path above it may shorten.
        lifetime: Duration,
    },
}

impl CertificateRole {
    /// The lifetime to request; `None` for the profile's.
    pub(super) fn lifetime(self) -> Option<Duration> {
        match self {
            Self::Leaf => None,
            Self::Ca { lifetime } => Some(lifetime),
        }
    }

    /// The age at which a certificate is renewed. A CA is renewed earlier, because what it signs ends
    /// with it at the latest.
    pub(super) fn renewal_age(self, lifetime: Duration) -> Duration {
        match self {
            Self::Leaf => lifetime * 2 / 3,
            Self::Ca { .. } => lifetime / 2,
        }
    }
}
