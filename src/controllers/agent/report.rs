//! What an agent says of its cluster.

use std::time::Duration;

use crate::clock::Clock;
use crate::digest::hex;
use crate::rotation::{ConfiguredTarget, Holding};
use crate::trust::rotation::TargetState;
use crate::trust::{Distribution, PublishedBundle};

/// What is applied, and what the API server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    pub sequence: u64,
    /// Lower-case hexadecimal.
    pub digest: String,
    pub targets: Vec<AgentTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTarget {
    pub target: String,
    pub state: AgentTargetState,
    pub last_edit: Option<String>,
}

/// As [`TargetState`], in durations: the server's clock may be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentTargetState {
    Holds { held_for: Duration },
    Behind { objects: usize, why: Option<String> },
    Contested { objects: usize },
    Unknown { why: String },
}

impl AgentReport {
    pub(super) fn new(
        bundle: &PublishedBundle,
        targets: &[ConfiguredTarget],
        distribution: &Distribution,
        holding: &mut Holding,
        clock: &dyn Clock,
    ) -> Self {
        let now = clock.now();
        let statuses = distribution.all();
        let sequence = bundle.bundle.sequence();
        let targets = targets.iter().map(|target| {
            let mut statuses = statuses.iter();
            let status = statuses.find(|status| status.target == target.target);
            let state = match holding.see(target, status, sequence, now) {
                TargetState::Holds { since } => AgentTargetState::Holds {
                    held_for: now.since(since),
                },
                TargetState::Behind { objects, why } => AgentTargetState::Behind { objects, why },
                TargetState::Contested { objects } => AgentTargetState::Contested { objects },
                TargetState::Unknown { why } | TargetState::Gone { reason: why } => {
                    AgentTargetState::Unknown { why }
                }
            };
            AgentTarget {
                target: target.target.clone(),
                state,
                last_edit: status.and_then(|status| status.last_edit.clone()),
            }
        });
        Self {
            sequence,
            digest: hex(&bundle.bundle.digest()),
            targets: targets.collect(),
        }
    }

    /// Whether it says anything else than `last`; that time has passed is nothing else.
    pub(super) fn differs(&self, last: &Self) -> bool {
        let plain = |report: &Self| {
            let mut report = report.clone();
            for target in &mut report.targets {
                if let AgentTargetState::Holds { held_for } = &mut target.state {
                    *held_for = Duration::ZERO;
                }
            }
            report
        };
        plain(self) != plain(last)
    }
}
