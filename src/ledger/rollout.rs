//! Which version of a trust bundle has come to its places.

use crate::clock::UnixTime;
use crate::x509::TrustDomain;

/// A version of a bundle that stood in every place of one target in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRollout {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The target's name in the configuration.
    pub target: String,
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// The version's sequence number.
    pub sequence: u64,
    /// The version's digest.
    pub digest: [u8; 32],
    /// How many objects held it then.
    pub objects: u64,
    /// When it first stood everywhere.
    pub at: UnixTime,
    /// The instance that wrote it.
    pub by: String,
}
