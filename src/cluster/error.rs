/// There is no usable client for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: {why}")]
pub struct ClusterUnavailable {
    pub cluster: String,
    /// Holds no credential.
    pub why: String,
}
