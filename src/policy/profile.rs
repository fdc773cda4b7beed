//! Profiles: everything in a certificate that does not come from the caller.

use std::time::Duration;

use crate::x509::{ExtendedKeyUsage, KeyKind};

/// What the names in a CSR mean under a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CsrNames {
    /// A CSR whose names differ from the certified ones is refused.
    Match,
    /// The names are ignored (as istiod does; for migrations between trust domains).
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
    /// Empty for every kind that a CSR may have.
    pub(super) keys: Vec<KeyKind>,
    /// For CAs below the issuing CA: how many CAs may be below them. `None`: for end entities.
    pub(super) ca_path_len: Option<u8>,
}

impl Profile {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lifetime of a request that names none.
    pub fn default_ttl(&self) -> Duration {
        self.default_ttl
    }

    /// The longest lifetime that may be requested.
    pub fn max_ttl(&self) -> Duration {
        self.max_ttl
    }

    /// How far notBefore is before the time of issuance.
    pub fn backdate(&self) -> Duration {
        self.backdate
    }

    pub fn usage(&self) -> ExtendedKeyUsage {
        self.usage
    }

    /// For a profile of CAs: how many CAs may be below such a CA. `None` for one of end entities.
    pub fn ca_path_len(&self) -> Option<u8> {
        self.ca_path_len
    }

    /// Whether it certifies keys of this kind.
    pub fn certifies(&self, kind: KeyKind) -> bool {
        self.keys.is_empty() || self.keys.contains(&kind)
    }
}
