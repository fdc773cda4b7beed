//! Which cluster judges a call: the one that its `clusterid` names.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, Clusters};
use crate::authn::{AuthnError, Quoted};

/// The least time between two lines about ids that nobody knows: anyone may send such ids.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The clusters that one listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerClusters {
    names: Vec<String>,
    default: Option<String>,
}

/// When an unknown id was last logged, and how many were not since.
#[derive(Debug, Default)]
pub(super) struct UnknownIdLog(Mutex<Option<(Instant, u64)>>);

impl ListenerClusters {
    /// These clusters, by name; calls without a `clusterid` are for `default`.
    pub fn new(names: Vec<String>, default: Option<String>) -> Self {
        Self { names, default }
    }

    /// The cluster for calls that name none.
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Whether no cluster is accepted.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl Clusters {
    /// The one cluster that judges a call with the `clusterid` `id`, which is empty when the call
    /// has none.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when the id names none of the listener's clusters.
    pub fn select(
        &self,
        listener: &ListenerClusters,
        id: &str,
    ) -> Result<Arc<Cluster>, AuthnError> {
        let wanted = match (id, &listener.default) {
            ("", None) => {
                return Err(AuthnError::rejected(
                    "the call names no cluster (clusterid), and the listener has no default_cluster",
                ));
            }
            ("", Some(default)) => default.as_str(),
            (id, _) => id,
        };
        // The listener's names are checked against the file; a cluster that came with a reload is
        // there after the next start.
        let accepted = || listener.names.iter().filter_map(|name| self.get(name));
        let found = accepted().find(|cluster| cluster.config().is_called(wanted));
        found.map(Arc::clone).ok_or_else(|| {
            let known: Vec<_> = accepted()
                .flat_map(|cluster| cluster.config().names())
                .collect();
            let known = known.join(" ");
            if let Some(suppressed) = self.unknown.may_log() {
                tracing::warn!(
                    clusterid = %Quoted(wanted), known, suppressed,
                    "a call names an unknown cluster"
                );
            }
            AuthnError::rejected(format_args!(
                "the clusterid {} names no cluster of this listener; known: {known}",
                Quoted(wanted)
            ))
        })
    }
}

impl UnknownIdLog {
    /// Whether a line may be written now; with how many were not written before it.
    fn may_log(&self) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match last.as_mut() {
            Some((at, suppressed)) if now.duration_since(*at) < LOG_INTERVAL => {
                *suppressed += 1;
                None
            }
            _ => Some(
                last.replace((now, 0))
                    .map_or(0, |(_, suppressed)| suppressed),
            ),
        }
    }
}
