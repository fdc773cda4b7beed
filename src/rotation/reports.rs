//! What servers on one ledger tell each other while a rotation is open: each records what it serves,
//! and what it sees of its clusters.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rotations;
use crate::clock::UnixTime;
use crate::digest::from_hex;
use crate::ledger::{LedgerError, LiveServer, RotationRecord, ServerReport, Snapshot};
use crate::trust::rotation::{ProxyEvidence, TargetEvidence, TargetState};

/// How often an unchanged report is recorded again, on a ledger that others read.
const AGAIN: Duration = Duration::from_secs(5);
/// What a report says of objects and pods counts for so long: they change without their server.
const FRESH: Duration = Duration::from_secs(30);

/// A report's part about clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Details {
    /// The bundle that targets are compared with.
    pub newest: u64,
    pub targets: Vec<Target>,
    pub proxies: Vec<Proxies>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    cluster: String,
    target: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum State {
    Holds { since: i64 },
    Behind { objects: usize, why: Option<String> },
    Contested { objects: usize },
    Unknown { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proxies {
    cluster: String,
    outdated: Option<usize>,
    examples: Vec<String>,
}

/// Another server, as the ledger shows it.
#[derive(Debug)]
pub(super) struct Other {
    pub instance: String,
    /// When its lease ends.
    pub until: UnixTime,
    /// Its report of the rotation's authority, if it has made one since it started.
    pub report: Option<ServerReport>,
    details: Details,
    is_fresh: bool,
}

impl Other {
    fn new(server: LiveServer, rotation: &RotationRecord, now: UnixTime) -> Self {
        let mut reports = server.reports.into_iter();
        let report = reports.find(|each| each.trust_domain == rotation.trust_domain);
        // One from before the rotation names targets that may not be configured any more.
        let report = report.filter(|report| report.at >= rotation.started_at);
        // Written by another version of the program: as if it had not been said.
        let details = report
            .as_ref()
            .and_then(|report| serde_json::from_str(&report.details).ok());
        let is_fresh = report
            .as_ref()
            .is_some_and(|report| now.since(report.at) < FRESH);
        Self {
            instance: server.instance,
            until: server.until,
            details: details.unwrap_or_default(),
            report,
            is_fresh,
        }
    }

    pub(super) fn is_alive(&self, now: UnixTime) -> bool {
        self.until > now
    }
}

impl Rotations {
    /// The other servers that have been alive since the rotation started.
    pub(super) async fn others(
        &self,
        rotation: &RotationRecord,
        now: UnixTime,
    ) -> Result<Vec<Other>, LedgerError> {
        let servers = self.parts.ledger.live_servers(rotation.started_at).await?;
        let others = servers
            .into_iter()
            .filter(|server| server.instance != self.parts.instance)
            .map(|server| Other::new(server, rotation, now));
        Ok(others.collect())
    }

    /// Records what this server has of the rotation's authority, if it is new or was said a while ago.
    pub(super) async fn report(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
    ) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        let domain = &rotation.trust_domain;
        let (Some(authority), Some(published)) = (
            records.authority(domain),
            self.parts.bundles.current(domain),
        ) else {
            return Ok(());
        };
        let details = Details {
            newest: newest(records, rotation),
            targets: self
                .targets(rotation, authority, now)
                .into_iter()
                .map(Target::from)
                .collect(),
            proxies: self
                .proxies(rotation)
                .into_iter()
                .map(Proxies::from)
                .collect(),
        };
        let statuses = self.parts.authorities.status();
        let own = statuses
            .iter()
            .find(|each| each.trust_domain == domain.as_str());
        // What it answers with is the older of the two until both are replaced.
        let sequence = published.bundle.sequence();
        let answered = own.and_then(|own| own.bundle_sequence).unwrap_or(sequence);
        let digest = from_hex(&published.digest).and_then(|bytes| bytes.try_into().ok());
        let report = ServerReport {
            instance: self.parts.instance.clone(),
            trust_domain: domain.clone(),
            sequence: sequence.min(answered),
            digest: digest.unwrap_or_default(),
            issuer: own.and_then(|own| own.issuer.clone()),
            details: serde_json::to_string(&details).unwrap_or_default(),
            at: now,
        };
        let is_shared = self.parts.ledger.time().await?.is_some();
        let last = self.reported().get(domain).cloned();
        let is_due = last.is_none_or(|last| {
            let same = ServerReport {
                at: now,
                ..last.clone()
            };
            same != report || (is_shared && now.since(last.at) >= AGAIN)
        });
        if is_due {
            self.parts.ledger.report_server(report.clone()).await?;
            self.reported().insert(domain.clone(), report);
        }
        Ok(())
    }
}

fn newest(records: &Snapshot, rotation: &RotationRecord) -> u64 {
    let authority = records.authority(&rotation.trust_domain);
    let bundle = authority.and_then(|authority| authority.bundle.as_ref());
    bundle.map_or(0, |bundle| bundle.sequence)
}

/// Adds what others see of targets. Who writes to a target knows of it; one that nobody writes to any
/// more is still there.
pub(super) fn merge_targets(
    own: Vec<TargetEvidence>,
    others: &[Other],
    newest: u64,
    now: UnixTime,
) -> Vec<TargetEvidence> {
    let mut all: BTreeMap<_, _> = own
        .into_iter()
        .map(|each| ((each.cluster, each.target), each.state))
        .collect();
    // Those of the living first: what a dead one has seen is only a name.
    let living = others.iter().filter(|other| other.is_alive(now));
    let dead = others.iter().filter(|other| !other.is_alive(now));
    for other in living.chain(dead) {
        for target in &other.details.targets {
            let key = (target.cluster.clone(), target.target.clone());
            let said = said(other, target, newest, now);
            match all.get_mut(&key) {
                Some(state) => {
                    let known =
                        std::mem::replace(state, TargetState::Unknown { why: String::new() });
                    *state = worse(known, said);
                }
                None => drop(all.insert(key, said)),
            }
        }
    }
    let merged = all
        .into_iter()
        .map(|((cluster, target), state)| TargetEvidence {
            cluster,
            target,
            state,
        });
    merged.collect()
}

/// What a report makes known about a target.
fn said(other: &Other, target: &Target, newest: u64, now: UnixTime) -> TargetState {
    let at = other.report.as_ref().map_or(now, |report| report.at);
    if !other.is_alive(now) {
        let why = format!(
            "the server {}, which was to write to it, is gone since {}",
            other.instance, other.until
        );
        return TargetState::Unknown { why };
    }
    if !other.is_fresh {
        let why = format!(
            "the server {} has reported nothing since {at}",
            other.instance
        );
        return TargetState::Unknown { why };
    }
    match &target.state {
        // Of an older bundle.
        State::Holds { .. } if other.details.newest != newest => TargetState::Behind {
            objects: 1,
            why: None,
        },
        State::Holds { since } => TargetState::Holds {
            since: UnixTime::from_secs(*since),
        },
        State::Behind { objects, why } => TargetState::Behind {
            objects: *objects,
            why: why.clone(),
        },
        State::Contested { objects } => TargetState::Contested { objects: *objects },
        State::Unknown { why } => TargetState::Unknown { why: why.clone() },
    }
}

/// Of two servers, one that sees a fault; neither knows nothing as long as the other knows something.
fn worse(one: TargetState, other: TargetState) -> TargetState {
    let rank = |state: &TargetState| match state {
        TargetState::Gone { .. } => 0,
        TargetState::Unknown { .. } => 1,
        TargetState::Holds { .. } => 2,
        TargetState::Behind { .. } => 3,
        TargetState::Contested { .. } => 4,
    };
    match (one, other) {
        (TargetState::Holds { since: one }, TargetState::Holds { since: other }) => {
            TargetState::Holds {
                since: one.max(other),
            }
        }
        (one, other) if rank(&other) > rank(&one) => other,
        (one, _) => one,
    }
}

/// Adds what others count of proxies: a cluster that one of them can count is counted.
pub(super) fn merge_proxies(
    own: Vec<ProxyEvidence>,
    others: &[Other],
    now: UnixTime,
) -> Vec<ProxyEvidence> {
    let mut all: BTreeMap<String, ProxyEvidence> = own
        .into_iter()
        .map(|each| (each.cluster.clone(), each))
        .collect();
    for other in others {
        for proxies in &other.details.proxies {
            let counts = other.is_fresh && other.is_alive(now);
            let said = ProxyEvidence {
                cluster: proxies.cluster.clone(),
                outdated: proxies.outdated.filter(|_| counts),
                examples: proxies.examples.clone(),
            };
            let known = all
                .entry(said.cluster.clone())
                .or_insert_with(|| said.clone());
            if said.outdated > known.outdated {
                *known = said;
            }
        }
    }
    all.into_values().collect()
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
