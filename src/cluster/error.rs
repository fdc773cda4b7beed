//! What can be wrong with a cluster.

/// Why a cluster's API server cannot be asked now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster}: {why}")]
pub struct Down {
    /// Its name in the configuration.
    pub cluster: String,
    /// What was tried and what came of it; holds no credential.
    pub why: String,
}

/// An error with its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(each) = cause {
        let each_text = each.to_string();
        if !text.contains(&each_text) {
            text.push_str(": ");
            text.push_str(&each_text);
        }
        cause = each.source();
    }
    text
}
