//! What is counted of callers that are turned away. No label ever holds what a caller said.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::authn::{Api, AuthnError};
use crate::cluster::NodeAuthorizationError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    listener: String,
    api: String,
    cluster: String,
    reason: &'static str,
}

/// Counters of callers that were turned away; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    refused: Family<Labels, Counter>,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "authentications_refused",
            "Calls that ended at the gate, because of who called or for want of knowing it",
            self.refused.clone(),
        );
    }

    /// Counts one. `cluster` is a name of the configuration, or empty.
    pub(super) fn count(&self, listener: &str, api: Api, cluster: &str, reason: &'static str) {
        let labels = Labels {
            listener: listener.to_owned(),
            api: api.to_string(),
            cluster: cluster.to_owned(),
            reason,
        };
        self.refused.get_or_create(&labels).inc();
    }
}

/// A refusal of a credential in one word.
pub(super) fn reason(error: &AuthnError) -> &'static str {
    match error {
        AuthnError::Missing => "missing",
        AuthnError::Rejected { .. } => "rejected",
        AuthnError::Unavailable(_) | AuthnError::Timeout(_) => "cannot_tell",
    }
}

/// A refusal of a node's proxy in one word.
pub(super) fn delegation_reason(error: &NodeAuthorizationError) -> &'static str {
    match error {
        NodeAuthorizationError::Refused(_) => "not_delegated",
        NodeAuthorizationError::Unavailable(error) => reason(error),
    }
}
