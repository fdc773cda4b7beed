//! What can be wrong with a cluster.

/// Why a cluster's API server cannot be asked now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: {why}")]
pub struct ClusterUnavailable {
    /// Its name in the configuration.
    pub cluster: String,
    /// What was tried and what came of it; holds no credential.
    pub why: String,
}
