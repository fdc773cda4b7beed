//! What a kept secret is to hold.

use std::time::Duration;

use crate::x509::San;

/// What a kept secret is to hold, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controllers) struct SecretSpec {
    /// The section's name in the configuration.
    pub(in crate::controllers) name: String,
    /// What it is, for the log: `istiod's certificate`.
    pub(in crate::controllers) what: &'static str,
    /// The secret's namespace.
    pub(in crate::controllers) namespace: String,
    /// The secret's name.
    pub(in crate::controllers) secret: String,
    /// The certificate's names.
    pub(in crate::controllers) names: Vec<San>,
    /// Its profile.
    pub(in crate::controllers) profile: &'static str,
    /// What the caller is called after `local:`.
    pub(in crate::controllers) purpose: &'static str,
    /// What role of certificate it is.
    pub(in crate::controllers) role: CertificateRole,
}

/// A role of certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controllers) enum CertificateRole {
    /// An end entity's, as long as its profile says.
    Leaf,
    /// A CA's with nothing but leaves below it.
    Ca {
        /// How long, if its profile and the path above it allow that.
        lifetime: Duration,
    },
}

impl CertificateRole {
    /// How long it is asked for; `None` for what the profile says.
    pub(super) fn lifetime(self) -> Option<Duration> {
        match self {
            Self::Leaf => None,
            Self::Ca { lifetime } => Some(lifetime),
        }
    }

    /// After how much of its life it is renewed. What a CA has signed ends with it at the latest, so
    /// that it is renewed earlier.
    pub(super) fn renewal(self, life: Duration) -> Duration {
        match self {
            Self::Leaf => life * 2 / 3,
            Self::Ca { .. } => life / 2,
        }
    }
}
