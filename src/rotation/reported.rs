//! What servers and agents say of clusters, as the ledger keeps it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::trust::rotation::{ProxyEvidence, TargetEvidence, TargetState};
use crate::x509::TrustDomain;

/// What a watcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    pub trust_domain: TrustDomain,
    pub instance: String,
    pub sequence: u64,
    pub digest: [u8; 32],
    pub targets: Vec<ReportedTarget>,
}

/// What an agent says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedTarget {
    pub target: String,
    pub state: ReportedState,
    pub last_edit: Option<String>,
}

/// As [`TargetState`](crate::trust::rotation::TargetState), by the agent's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedState {
    Holds { held_for: Duration },
    Behind { objects: usize, why: Option<String> },
    Contested { objects: usize },
    Unknown { why: String },
}

/// A report's part about clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Details {
    /// The bundle that targets are compared with.
    pub(super) newest: u64,
    pub(super) targets: Vec<Target>,
    pub(super) proxies: Vec<Proxies>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) cluster: String,
    pub(super) target: String,
    #[serde(flatten)]
    pub(super) state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(super) enum State {
    Holds { since: i64 },
    Behind { objects: usize, why: Option<String> },
    Contested { objects: usize },
    Unknown { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proxies {
    pub(super) cluster: String,
    pub(super) outdated: Option<usize>,
    pub(super) examples: Vec<String>,
}

impl Details {
    /// What an agent has said about its cluster's targets, by this server's clock.
    pub(super) fn of_agent(
        cluster: &str,
        newest: u64,
        targets: Vec<ReportedTarget>,
        now: UnixTime,
    ) -> Self {
        let targets = targets.into_iter().map(|each| Target {
            cluster: cluster.to_owned(),
            target: each.target,
            state: match each.state {
                ReportedState::Holds { held_for } => State::Holds {
                    since: now.minus(held_for).secs(),
                },
                ReportedState::Behind { objects, why } => State::Behind { objects, why },
                ReportedState::Contested { objects } => State::Contested { objects },
                ReportedState::Unknown { why } => State::Unknown { why },
            },
            edit: each.last_edit,
        });
        Self {
            newest,
            targets: targets.collect(),
            proxies: Vec::new(),
        }
    }
}

impl From<TargetEvidence> for Target {
    fn from(evidence: TargetEvidence) -> Self {
        let state = match evidence.state {
            TargetState::Holds { since } => State::Holds {
                since: since.secs(),
            },
            TargetState::Behind { objects, why } => State::Behind { objects, why },
            TargetState::Contested { objects } => State::Contested { objects },
            TargetState::Unknown { why } | TargetState::Gone { reason: why } => {
                State::Unknown { why }
            }
        };
        Self {
            cluster: evidence.cluster,
            target: evidence.target,
            state,
            edit: evidence.edit,
        }
    }
}

impl From<ProxyEvidence> for Proxies {
    fn from(evidence: ProxyEvidence) -> Self {
        Self {
            cluster: evidence.cluster,
            outdated: evidence.outdated,
            examples: evidence.examples,
        }
    }
}
