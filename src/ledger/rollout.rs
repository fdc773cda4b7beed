//! The rollout of trust bundle versions.

use crate::clock::UnixTime;
use crate::x509::TrustDomain;

/// A bundle version that every object of one target in one cluster contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRollout {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The target's name in the configuration.
    pub target: String,
    pub trust_domain: TrustDomain,
    pub sequence: u64,
    pub digest: [u8; 32],
    /// How many objects contained the version.
    pub objects: u64,
    /// When all objects first contained it.
    pub at: UnixTime,
    /// The instance that wrote it.
    pub by: String,
}
