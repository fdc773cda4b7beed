//! What every controller needs.

use std::sync::Arc;

use super::metrics::Metrics;
use crate::clock::Clock;
use crate::cluster::Clusters;
use crate::issuance::{Authorities, WorkLeases};

#[derive(Debug, Clone)]
pub struct Dependencies {
    pub clusters: Arc<Clusters>,
    pub authorities: Arc<Authorities>,
    /// Of the servers that share the ledger, one writes a secret.
    pub leases: WorkLeases,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}
