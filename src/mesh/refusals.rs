//! Metrics of failed authentications. No label holds text of a caller.

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

/// Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    refused: Family<Labels, Counter>,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "authentications_refused",
            "Calls that failed authentication, or whose caller could not be authenticated now",
            self.refused.clone(),
        );
    }

    /// `cluster` is a name of the configuration, or empty.
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

/// The value of the label `reason`.
pub(super) fn reason(error: &AuthnError) -> &'static str {
    match error {
        AuthnError::Missing => "missing",
        AuthnError::Rejected { .. } => "rejected",
        AuthnError::Unavailable(_) | AuthnError::Timeout(_) => "cannot_tell",
    }
}

/// The value of the label `reason` for a node's proxy.
pub(super) fn delegation_reason(error: &NodeAuthorizationError) -> &'static str {
    match error {
        NodeAuthorizationError::Refused(_) => "not_delegated",
        NodeAuthorizationError::Unavailable(error) => reason(error),
    }
}
