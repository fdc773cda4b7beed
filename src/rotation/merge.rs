//! Joins what servers and agents say of the same clusters.

use std::collections::BTreeMap;

use super::reported::{Details, State, Target};
use crate::clock::UnixTime;
use crate::trust::rotation::{ProxyEvidence, TargetEvidence, TargetState};

/// A server or an agent.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Why what it said does not count any more: then it only names its targets.
    pub(super) lost: Option<String>,
    pub(super) details: &'a Details,
}

/// Adds what others see of targets. Who writes to a target knows of it; one that nobody writes to any
/// more is still there.
pub(super) fn merge_targets(
    own: Vec<TargetEvidence>,
    others: &[Source<'_>],
    newest: u64,
) -> Vec<TargetEvidence> {
    let mut all: BTreeMap<_, _> = own
        .into_iter()
        .map(|each| ((each.cluster, each.target), (each.state, each.edit)))
        .collect();
    // Those that count first: of two who know nothing, the first says why.
    let counts = others.iter().filter(|other| other.lost.is_none());
    let lost = others.iter().filter(|other| other.lost.is_some());
    for other in counts.chain(lost) {
        for target in &other.details.targets {
            let key = (target.cluster.clone(), target.target.clone());
            let said = (said(other, target, newest), target.edit.clone());
            let merged = match all.remove(&key) {
                Some(known) => worse(known, said),
                None => said,
            };
            all.insert(key, merged);
        }
    }
    let merged = all
        .into_iter()
        .map(|((cluster, target), (state, edit))| TargetEvidence {
            cluster,
            target,
            state,
            edit,
        });
    merged.collect()
}

fn said(other: &Source<'_>, target: &Target, newest: u64) -> TargetState {
    if let Some(why) = &other.lost {
        return TargetState::Unknown { why: why.clone() };
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

type Known = (TargetState, Option<String>);

/// Of two, the one that sees a fault; neither knows nothing as long as the other knows something.
fn worse(one: Known, other: Known) -> Known {
    let rank = |state: &TargetState| match state {
        TargetState::Gone { .. } => 0,
        TargetState::Unknown { .. } => 1,
        TargetState::Holds { .. } => 2,
        TargetState::Behind { .. } => 3,
        TargetState::Contested { .. } => 4,
    };
    match (one, other) {
        (
            (TargetState::Holds { since: one }, edit),
            (TargetState::Holds { since: other }, also),
        ) => (
            TargetState::Holds {
                since: one.max(other),
            },
            edit.or(also),
        ),
        (one, other) if rank(&other.0) > rank(&one.0) => other,
        (one, _) => one,
    }
}

/// Adds what others count of proxies: a cluster that one of them can count is counted.
pub(super) fn merge_proxies(own: Vec<ProxyEvidence>, others: &[Source<'_>]) -> Vec<ProxyEvidence> {
    let mut all: BTreeMap<String, ProxyEvidence> = own
        .into_iter()
        .map(|each| (each.cluster.clone(), each))
        .collect();
    for other in others {
        for proxies in &other.details.proxies {
            let said = ProxyEvidence {
                cluster: proxies.cluster.clone(),
                outdated: proxies.outdated.filter(|_| other.lost.is_none()),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn target(state: State) -> Target {
        Target {
            cluster: "east".to_owned(),
            target: "istio".to_owned(),
            state,
            edit: None,
        }
    }

    fn unknown(why: &str) -> TargetState {
        TargetState::Unknown {
            why: why.to_owned(),
        }
    }

    fn merged(own: Option<TargetState>, others: &[(Option<&str>, u64, State)]) -> TargetState {
        let own = own.map(|state| TargetEvidence {
            cluster: "east".to_owned(),
            target: "istio".to_owned(),
            state,
            edit: None,
        });
        let details: Vec<_> = others
            .iter()
            .map(|(_, newest, state)| Details {
                newest: *newest,
                targets: vec![target(state.clone())],
                proxies: Vec::new(),
            })
            .collect();
        let sources: Vec<_> = others
            .iter()
            .zip(&details)
            .map(|((lost, ..), details)| Source {
                lost: lost.map(str::to_owned),
                details,
            })
            .collect();
        let mut all = merge_targets(own.into_iter().collect(), &sources, 5);
        assert_eq!(all.len(), 1);
        all.remove(0).state
    }

    #[test]
    fn who_writes_to_a_target_knows_of_it() {
        let holds = |since| State::Holds { since };
        let since = |secs| TargetState::Holds {
            since: UnixTime::from_secs(secs),
        };
        let behind = || State::Behind {
            objects: 2,
            why: None,
        };
        // Another writes.
        let elsewhere = Some(unknown("b writes to it"));
        assert_eq!(merged(elsewhere.clone(), &[(None, 5, holds(7))]), since(7));
        // It holds an older bundle, or somebody sees a fault.
        for other in [(None, 4, holds(7)), (None, 5, behind())] {
            let state = merged(elsewhere.clone(), &[(None, 5, holds(7)), other]);
            assert!(matches!(state, TargetState::Behind { .. }), "{state:?}");
        }
        // What is not heard of any more counts for nothing, and is still there.
        assert_eq!(
            merged(elsewhere, &[(Some("dead"), 5, holds(7))]),
            unknown("b writes to it")
        );
        assert_eq!(
            merged(None, &[(Some("dead"), 5, holds(7))]),
            unknown("dead")
        );
        assert_eq!(
            merged(None, &[(Some("dead"), 5, holds(7)), (None, 5, holds(9))]),
            since(9)
        );
        // The later of two times.
        assert_eq!(merged(Some(since(3)), &[(None, 5, holds(9))]), since(9));
    }

    #[test]
    fn a_cluster_that_one_of_them_can_count_is_counted() {
        let proxies = |outdated| ProxyEvidence {
            cluster: "east".to_owned(),
            outdated,
            examples: Vec::new(),
        };
        let details = Details {
            proxies: vec![proxies(Some(2)).into()],
            ..Details::default()
        };
        let source = |lost: Option<&str>| Source {
            lost: lost.map(str::to_owned),
            details: &details,
        };
        let counted = |own, source| merge_proxies(own, &[source])[0].outdated;
        assert_eq!(counted(vec![proxies(None)], source(None)), Some(2));
        assert_eq!(counted(vec![proxies(Some(3))], source(None)), Some(3));
        assert_eq!(counted(Vec::new(), source(Some("dead"))), None);
    }
}
