//! From where a rotation is and what is known to the next move and what holds it back.

use super::evidence::{
    Evidence, Preparation, ProxyEvidence, ServerEvidence, TargetEvidence, TargetState, WatcherState,
};
use super::reason::{Condition, Reason, Whose};
use crate::ledger::{LiveCertificates, LiveHolder, RotationKind, RotationPhase};

/// Where a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub kind: RotationKind,
    pub phase: RotationPhase,
    /// It goes back.
    pub backwards: bool,
    /// The bundle changes. With the same root verifiers need nothing new.
    pub changes_roots: bool,
}

/// What a move changes in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing but the phase.
    None,
    /// The arriving root is published beside the other.
    Publish,
    /// The arriving issuing CA signs.
    Activate,
    /// The issuing CA that signed before signs again.
    Revert,
    /// What leaves is retired, and its root leaves the bundle.
    Retire,
    /// What was to arrive is retired before it has signed.
    Discard,
}

/// A move, and what holds it back; it may be made when that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub to: RotationPhase,
    pub backwards: bool,
    pub action: Action,
    pub held: Vec<Reason>,
}

/// Why a rotation cannot go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    #[error("what it replaces is retired already: start another rotation")]
    Retired,
    #[error("it goes back already")]
    Already,
    #[error("it has ended")]
    Ended,
}

/// The next move of a rotation in its direction; `None` once it has ended.
pub fn forward(position: &Position, evidence: &Evidence) -> Option<Verdict> {
    use RotationPhase as Phase;
    let (to, action, held) = match position.phase {
        Phase::Prepare => (Phase::Publish, Action::Publish, preparation(evidence)),
        Phase::Publish => (Phase::Converge, Action::None, servers(evidence)),
        Phase::Converge => (Phase::Activate, Action::Activate, {
            let mut held = preparation(evidence);
            if position.changes_roots {
                held.extend(servers(evidence));
                held.extend(targets(evidence, true));
                held.extend(watchers(evidence));
                held.extend(proxies(evidence));
                held.extend(holders(&evidence.without_root));
            }
            held
        }),
        Phase::Activate => (Phase::Drain, Action::None, signers(evidence)),
        Phase::Drain => (Phase::Retire, Action::Retire, {
            let mut held = signers(evidence);
            held.extend(alive(&evidence.alive));
            held
        }),
        Phase::Retire => {
            let end = match position.backwards {
                true => Phase::Withdrawn,
                false => Phase::Done,
            };
            let mut held = targets(evidence, false);
            held.extend(watchers(evidence));
            (end, Action::None, held)
        }
        Phase::Done | Phase::Withdrawn => return None,
    };
    Some(Verdict {
        to,
        backwards: position.backwards,
        action,
        held,
    })
}

/// The move that turns a rotation around.
///
/// # Errors
/// It is too late, or it has turned already.
pub fn back(position: &Position, evidence: &Evidence) -> Result<Verdict, NoWayBack> {
    use RotationPhase as Phase;
    let (to, action) = match position.phase {
        Phase::Done | Phase::Withdrawn => return Err(NoWayBack::Ended),
        Phase::Retire if !position.backwards => return Err(NoWayBack::Retired),
        _ if position.backwards => return Err(NoWayBack::Already),
        Phase::Prepare => (Phase::Withdrawn, Action::Discard),
        // Nothing has been done yet.
        _ if position.kind == RotationKind::RootLeaves => (Phase::Withdrawn, Action::None),
        // Nothing is signed below what was to arrive: its root may leave at once.
        Phase::Publish | Phase::Converge => (Phase::Retire, Action::Discard),
        Phase::Activate | Phase::Drain | Phase::Retire => (Phase::Drain, Action::Revert),
    };
    let no_return = evidence
        .no_return
        .as_ref()
        .filter(|_| action == Action::Revert);
    let held = no_return.map(|why| Reason {
        condition: Condition::Return,
        cluster: None,
        what: "the issuing CA that signed before".to_owned(),
        why: why.clone(),
        whose: Whose::Operator,
        until: None,
    });
    Ok(Verdict {
        to,
        backwards: true,
        action,
        held: held.into_iter().collect(),
    })
}

fn preparation(evidence: &Evidence) -> Vec<Reason> {
    let (why, whose) = match &evidence.preparation {
        Preparation::Ready => return Vec::new(),
        Preparation::Running => (
            "its keys and certificates are being made".to_owned(),
            Whose::Rootbridge,
        ),
        Preparation::WaitsForCertificate => (
            "the upstream CA has not certified its key".to_owned(),
            Whose::UpstreamCa,
        ),
        Preparation::Problem(why) => (why.clone(), Whose::Operator),
    };
    vec![Reason {
        condition: Condition::Preparation,
        cluster: None,
        what: "the arriving CA".to_owned(),
        why,
        whose,
        until: None,
    }]
}

fn servers(evidence: &Evidence) -> Vec<Reason> {
    let without = evidence.servers.iter().filter(|server| !server.has_bundle);
    without
        .map(|server| {
            held_by_server(
                server,
                Condition::Server,
                "it does not publish the newest bundle yet",
            )
        })
        .collect()
}

fn held_by_server(server: &ServerEvidence, condition: Condition, why: &str) -> Reason {
    let why = match server.is_silent {
        true => "it has not reported what it serves",
        false => why,
    };
    let lease = server
        .lease_until
        .map(|until| format!("; it counts until its lease ends, now at {until}"));
    Reason {
        condition,
        cluster: None,
        what: format!("server {}", server.instance),
        why: format!("{why}{}", lease.unwrap_or_default()),
        whose: Whose::Rootbridge,
        // A lease that is renewed goes on.
        until: None,
    }
}

fn signers(evidence: &Evidence) -> Vec<Reason> {
    let without = evidence.servers.iter().filter(|server| !server.has_issuer);
    without
        .map(|server| {
            held_by_server(
                server,
                Condition::Signer,
                "it does not sign under the issuing CA that stays yet",
            )
        })
        .collect()
}

/// `settled`: pods must have had time to read the objects, because something depends on it.
fn targets(evidence: &Evidence, settled: bool) -> Vec<Reason> {
    let reasons = evidence
        .targets
        .iter()
        .filter_map(|target| held_by_target(target, evidence, settled));
    reasons.collect()
}

fn held_by_target(target: &TargetEvidence, evidence: &Evidence, settled: bool) -> Option<Reason> {
    let objects = |count: usize| match count {
        1 => "1 object does".to_owned(),
        count => format!("{count} objects do"),
    };
    let (condition, why, whose, until) = match &target.state {
        TargetState::Gone { .. } => return None,
        TargetState::Holds { since } => {
            let until = since.plus(evidence.settle);
            if !settled || evidence.now >= until {
                return None;
            }
            let why = "pods may not have read it yet".to_owned();
            (Condition::Settling, why, Whose::Time, Some(until))
        }
        TargetState::Behind {
            objects: count,
            why,
        } => {
            let cause = why.as_ref().map(|why| format!(": {why}"));
            let why = format!(
                "{} not hold the newest bundle{}",
                objects(*count),
                cause.unwrap_or_default()
            );
            (Condition::Target, why, Whose::Rootbridge, None)
        }
        TargetState::Contested { objects: count } => {
            let why = format!(
                "{} not keep the newest bundle: another writer changes them",
                objects(*count)
            );
            (Condition::Target, why, Whose::Cluster, None)
        }
        TargetState::Unknown { why } => (Condition::Target, why.clone(), Whose::Cluster, None),
    };
    let edit = target.edit.as_ref().map(|edit| format!(", after {edit}"));
    Some(Reason {
        condition,
        cluster: Some(target.cluster.clone()),
        what: format!("target {}", target.target),
        why: format!("{why}{}", edit.unwrap_or_default()),
        whose,
        until,
    })
}

/// How many watchers are named; all are counted.
const NAMED_WATCHERS: usize = 100;

fn watchers(evidence: &Evidence) -> Vec<Reason> {
    let mut held = evidence.watchers.iter().filter_map(|watcher| {
        let why = match watcher.state {
            WatcherState::Applied => return None,
            WatcherState::Other { sequence, newest } if sequence < newest => {
                format!("it has applied bundle {sequence}, and {newest} is the newest")
            }
            WatcherState::Other { .. } => {
                "what it has applied is not the bundle that is published".to_owned()
            }
            WatcherState::Silent => "it has never said what it has applied".to_owned(),
        };
        Some(Reason {
            condition: Condition::Watcher,
            cluster: None,
            what: format!("watcher {}", watcher.name),
            why,
            whose: Whose::Workload,
            until: None,
        })
    });
    let mut reasons: Vec<_> = held.by_ref().take(NAMED_WATCHERS).collect();
    let more = held.count();
    if let (Some(first), 1..) = (reasons.first(), more) {
        reasons.push(Reason {
            what: format!("{more} more watchers"),
            why: "they are not listed".to_owned(),
            ..first.clone()
        });
    }
    reasons
}

fn proxies(evidence: &Evidence) -> Vec<Reason> {
    evidence
        .proxies
        .iter()
        .filter_map(held_by_proxies)
        .collect()
}

fn held_by_proxies(proxies: &ProxyEvidence) -> Option<Reason> {
    let (why, whose) = match proxies.outdated {
        Some(0) => return None,
        Some(count) => {
            let examples = proxies.examples.join(", ");
            let why = format!(
                "{count} were started without the newest bundle ({examples}): restart them, \
                 `rootbridge linkerd status` says how"
            );
            (why, Whose::Workload)
        }
        None => ("they cannot be counted".to_owned(), Whose::Cluster),
    };
    Some(Reason {
        condition: Condition::Proxy,
        cluster: Some(proxies.cluster.clone()),
        what: "Linkerd's proxies".to_owned(),
        why,
        whose,
        until: None,
    })
}

fn holders(without_root: &LiveCertificates) -> Vec<Reason> {
    named(without_root, |holder| {
        let why = "it received the old bundle with its certificate, and has not renewed since";
        (Condition::Holder, why.to_owned(), holder)
    })
}

fn alive(alive: &LiveCertificates) -> Vec<Reason> {
    named(alive, |holder| {
        let (condition, why) = match holder.is_ca {
            true => (
                Condition::Subordinate,
                "a CA of somebody else is certified below what leaves, and may have issued more"
                    .to_owned(),
            ),
            false => (
                Condition::Alive,
                match holder.certificates {
                    1 => "a certificate below what leaves is alive".to_owned(),
                    count => format!("{count} certificates below what leaves are alive"),
                },
            ),
        };
        (condition, why, holder)
    })
}

/// One reason for each holder, and one for those that were only counted.
fn named<'a>(
    live: &'a LiveCertificates,
    reason: impl Fn(&'a LiveHolder) -> (Condition, String, &'a LiveHolder),
) -> Vec<Reason> {
    let mut reasons: Vec<_> = live
        .holders
        .iter()
        .map(|holder| {
            let (condition, why, holder) = reason(holder);
            let pod = holder.pod.as_ref().map(|pod| format!(" in pod {pod}"));
            Reason {
                condition,
                cluster: holder.cluster.clone(),
                what: format!("{}{}", holder.subject, pod.unwrap_or_default()),
                why,
                whose: Whose::Workload,
                until: Some(holder.until),
            }
        })
        .collect();
    let shown: u64 = live.holders.iter().map(|holder| holder.certificates).sum();
    if let (Some(first), Some(more)) = (reasons.first(), live.total.checked_sub(shown))
        && more > 0
    {
        reasons.push(Reason {
            cluster: None,
            what: format!("{more} more certificates"),
            why: "they are not listed".to_owned(),
            until: live.until,
            ..first.clone()
        });
    }
    reasons
}
