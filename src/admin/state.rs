//! What the routes read, and why a server is not ready.

use std::sync::Arc;

use super::health_state::HealthState;
use super::metrics::Metrics;
use crate::authn::Operators;
use crate::clock::Clock;
use crate::issuance::{Authorities, AuthorityStatus, SigningPipeline};
use crate::net::Certificates;
use crate::rotation::Rotations;
use crate::trust::Distribution;
use crate::upstream::Statuses;

/// The components that the routes read.
#[derive(Debug)]
pub struct Admin {
    pub authorities: Arc<Authorities>,
    pub pipeline: SigningPipeline,
    pub health_state: Arc<HealthState>,
    /// The rollout of trust bundles in clusters.
    pub distribution: Arc<Distribution>,
    /// Requests to upstream CAs, and when the issuing CAs are renewed.
    pub renewing: Arc<Statuses>,
    pub rotations: Arc<Rotations>,
    /// The certificates of each listener, by its name: without any no handshake succeeds.
    pub listeners: Vec<(String, Arc<Certificates>)>,
    pub metrics: Metrics,
    pub operators: arc_swap::ArcSwap<Operators>,
    /// The operators whose credentials are accepted here.
    pub operator_names: Vec<String>,
    pub clock: Arc<dyn Clock>,
}

/// The name of the operator whose credential came with a request.
#[derive(Debug, Clone)]
pub(super) struct Operator(pub(super) String);

/// Why the server is not ready: in public, and for operators, which may name tokens and files.
pub(super) struct Reason {
    pub(super) public: String,
    pub(super) detail: String,
}

impl Admin {
    /// Empty when the server is ready. An HSM outage is no reason: bundles are still served, and calls
    /// for certificates return UNAVAILABLE.
    pub(super) fn not_ready(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if let Some(error) = self.health_state.ledger_error() {
            reasons.push(Reason {
                public: "ledger: it does not answer or accepts no records: see the log".to_owned(),
                detail: format!("ledger: {error}"),
            });
        }
        let authorities = self.authorities.status();
        if authorities.is_empty() {
            let what =
                "no authority yet: run `rootbridge ca init`, or `ca request` and `ca import`";
            reasons.push(Reason {
                public: what.to_owned(),
                detail: what.to_owned(),
            });
        }
        if authorities.iter().all(|each| each.issuer.is_none()) {
            let reason = |authority: AuthorityStatus| Reason {
                public: format!(
                    "{}: {}",
                    authority.trust_domain,
                    authority.public_why.unwrap_or_default()
                ),
                detail: format!(
                    "{}: {}",
                    authority.trust_domain,
                    authority.why.unwrap_or_default()
                ),
            };
            reasons.extend(authorities.into_iter().map(reason));
        }
        let without = self.listeners.iter().filter(|(_, shown)| shown.is_empty());
        reasons.extend(without.map(|(name, _)| {
            let what = format!("listener {name}: it has no certificate yet");
            Reason {
                public: what.clone(),
                detail: what,
            }
        }));
        reasons
    }
}
