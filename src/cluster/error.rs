//! What can be wrong with a cluster.

use std::fmt;

/// Why a cluster's API server cannot be asked now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: {why}")]
pub struct ClusterUnavailable {
    /// Its name in the configuration.
    pub cluster: String,
    /// What was tried and what came of it; holds no credential.
    pub why: String,
}

/// A configuration that cannot stand: which key, and what is wrong with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    key: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}
