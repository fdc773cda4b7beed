//! Profiles: everything in a certificate that does not come from the caller.

use std::time::Duration;

use crate::x509::ExtendedKeyUsage;
use crate::x509::KeyKind;

/// What a CSR's own names mean under a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CsrNames {
    /// A CSR that names something else than what is certified is refused.
    Match,
    /// A CSR's names are not looked at (as istiod does; for moves between trust domains).
    Ignore,
}

/// A named kind of certificate. Durations are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub(super) name: String,
    pub(super) default_ttl: Duration,
    pub(super) max_ttl: Duration,
    pub(super) backdate: Duration,
    pub(super) csr_names: CsrNames,
    pub(super) usage: ExtendedKeyUsage,
    pub(super) keys: Vec<KeyKind>,
}

impl Profile {
    /// The name by which requests and rules call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lifetime when none is asked for.
    pub fn default_ttl(&self) -> Duration {
        self.default_ttl
    }

    /// The longest lifetime that may be asked for.
    pub fn max_ttl(&self) -> Duration {
        self.max_ttl
    }

    /// How far notBefore lies before the moment of issuance.
    pub fn backdate(&self) -> Duration {
        self.backdate
    }

    /// The extended key usages of its certificates.
    pub fn usage(&self) -> ExtendedKeyUsage {
        self.usage
    }

    /// What the names in a CSR mean.
    pub fn csr_names(&self) -> CsrNames {
        self.csr_names
    }

    /// The kinds of key that it certifies; empty means every kind that a CSR may have.
    pub fn certifies(&self, kind: KeyKind) -> bool {
        self.keys.is_empty() || self.keys.contains(&kind)
    }
}
