//! What watchers and agents have said, as the rules read it.

use std::time::Duration;

use super::Rotations;
use super::merge::Source;
use super::reported::Details;
use super::watchers::WatcherConfig;
use crate::clock::UnixTime;
use crate::ledger::{AuthorityRecord, LedgerError, WatcherReport};
use crate::trust::rotation::{TargetEvidence, TargetState, WatcherEvidence, WatcherState};

/// What an agent says of its cluster counts for so long.
const FRESH: Duration = Duration::from_secs(90);

/// Watchers and agents of one authority.
#[derive(Debug, Default)]
pub(super) struct Verifiers {
    pub(super) watchers: Vec<WatcherEvidence>,
    agents: Vec<(WatcherReport, Details)>,
    /// Agents that have never reported: their cluster, and their name.
    silent: Vec<(String, String)>,
}

impl Rotations {
    pub(super) async fn verifiers(
        &self,
        authority: &AuthorityRecord,
    ) -> Result<Verifiers, LedgerError> {
        let reports = self.parts.ledger.watchers().await?;
        let own = |report: &WatcherReport| report.trust_domain == authority.trust_domain;
        let reports: Vec<_> = reports.into_iter().filter(own).collect();
        let mut verifiers = Verifiers::default();
        let configs = self.parts.watchers.iter();
        for config in configs.filter(|each| each.trust_domain == authority.trust_domain) {
            if reports.iter().any(|report| is_of(report, config)) {
                continue;
            }
            match &config.cluster {
                Some(cluster) => verifiers
                    .silent
                    .push((cluster.clone(), config.name.clone())),
                None => verifiers.watchers.push(WatcherEvidence {
                    name: config.name.clone(),
                    state: WatcherState::Silent,
                }),
            }
        }
        for report in reports {
            match report.cluster.is_empty() {
                true => verifiers.watchers.push(WatcherEvidence {
                    state: state(&report, authority),
                    name: report.name,
                }),
                false => {
                    // Of another version of the program: as if it had not been said.
                    let details = serde_json::from_str(&report.details).unwrap_or_default();
                    verifiers.agents.push((report, details));
                }
            }
        }
        Ok(verifiers)
    }
}

impl Verifiers {
    /// What agents say of their clusters. Of several of one cluster those count that are heard of.
    pub(super) fn sources(&self, now: UnixTime) -> Vec<Source<'_>> {
        let sources = self.agents.iter().map(|(report, details)| {
            let is_lost = now.since(report.at) >= FRESH;
            let lost = format!(
                "the agent {}, which publishes there, has reported nothing since {}",
                report.name, report.at
            );
            Source {
                lost: is_lost.then_some(lost),
                details,
            }
        });
        sources.collect()
    }

    /// An agent that has never reported, or that reports no target, stands for its whole cluster.
    pub(super) fn clusters(&self) -> Vec<TargetEvidence> {
        let unknown = |cluster: &str, name: &str, why: &str| TargetEvidence {
            cluster: cluster.to_owned(),
            target: format!("of agent {name}"),
            state: TargetState::Unknown {
                why: why.to_owned(),
            },
            edit: None,
        };
        let silent = self
            .silent
            .iter()
            .map(|(cluster, name)| unknown(cluster, name, "it has never reported"));
        let empty = self
            .agents
            .iter()
            .filter(|(_, details)| details.targets.is_empty())
            .map(|(report, _)| {
                unknown(
                    &report.cluster,
                    &report.name,
                    "it has not read its cluster yet",
                )
            });
        silent.chain(empty).collect()
    }
}

fn is_of(report: &WatcherReport, config: &WatcherConfig) -> bool {
    let mut parts = report.name.split('/');
    parts.next() == Some(config.name.as_str())
        && report.cluster == config.cluster.clone().unwrap_or_default()
}

fn state(report: &WatcherReport, authority: &AuthorityRecord) -> WatcherState {
    let bundle = authority.bundle.as_ref();
    match bundle {
        Some(bundle) if report.sequence == bundle.sequence && report.digest == bundle.digest => {
            WatcherState::Applied
        }
        bundle => WatcherState::Other {
            sequence: report.sequence,
            newest: bundle.map_or(0, |bundle| bundle.sequence),
        },
    }
}
