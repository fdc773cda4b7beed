//! What controllers work with.

use std::sync::Arc;

use super::metrics::Metrics;
use crate::clock::Clock;
use crate::cluster::Clusters;
use crate::issuance::Authorities;

/// What controllers work with.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// How each cluster is reached.
    pub clusters: Arc<Clusters>,
    /// Who issues.
    pub authorities: Arc<Authorities>,
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
}
