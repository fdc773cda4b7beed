//! Every reachable state of small meshes; and that each condition is needed: without one of them the
//! same search finds a state in which a handshake fails.

use rootbridge::ledger::RotationPhase;
use rootbridge::trust::rotation::Condition;
use stateright::{Checker, Model, Property};

use crate::mesh::{Event, Mesh};
use crate::rules::Rules;

const VERIFIES: &str = "every live certificate verifies with every live verifier's bundle";
const SIGNS: &str = "no server is left with a retired issuing CA";
const ENDS: &str = "a rotation can end";
const RETURNS: &str = "a rotation can go back";

impl Model for Rules {
    type State = Mesh;
    type Action = Event;

    fn init_states(&self) -> Vec<Mesh> {
        vec![Mesh::new(self)]
    }

    fn actions(&self, state: &Mesh, actions: &mut Vec<Event>) {
        actions.extend(state.events(self));
    }

    fn next_state(&self, state: &Mesh, event: Event) -> Option<Mesh> {
        Some(state.after(&event, self))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(VERIFIES, |_, mesh: &Mesh| mesh.verifies()),
            Property::always(SIGNS, |_, mesh: &Mesh| mesh.signs_on()),
            Property::sometimes(ENDS, |_, mesh: &Mesh| mesh.phase == RotationPhase::Done),
            Property::sometimes(RETURNS, |_, mesh: &Mesh| {
                mesh.phase == RotationPhase::Withdrawn && mesh.retired != 0
            }),
        ]
    }
}

/// Meshes that are explored to the last state, each with the conditions that matter in it.
fn meshes() -> Vec<(&'static str, Rules, &'static [Condition])> {
    use Condition::{Alive, Holder, Proxy, Server, Settling, Signer, Subordinate, Target, Watcher};
    vec![
        (
            "two sidecars, answers that are lost",
            Rules {
                sidecars: 2,
                losses: 2,
                ..Rules::NONE
            },
            &[Holder, Alive],
        ),
        (
            "two servers and a sidecar",
            Rules {
                servers: 2,
                sidecars: 1,
                losses: 1,
                ..Rules::NONE
            },
            &[Server, Holder, Signer, Alive],
        ),
        (
            "a pod and a sidecar, an object that is edited",
            Rules {
                clusters: 1,
                sidecars: 1,
                pods: 1,
                edits: 2,
                ..Rules::NONE
            },
            &[Target, Settling, Holder, Alive],
        ),
        (
            "a proxy that reads its roots when it starts",
            Rules {
                clusters: 1,
                proxies: 1,
                pods: 1,
                edits: 1,
                ..Rules::NONE
            },
            &[Proxy, Target, Settling, Alive],
        ),
        (
            "a watcher and a sidecar",
            Rules {
                sidecars: 1,
                watchers: 1,
                edits: 1,
                ..Rules::NONE
            },
            &[Watcher, Holder, Alive],
        ),
        (
            "a CA of somebody else",
            Rules {
                sidecars: 1,
                subordinate: true,
                ..Rules::NONE
            },
            &[Subordinate, Holder, Alive],
        ),
    ]
}

#[test]
fn no_handshake_fails_in_any_order_of_events() {
    for (what, rules, _) in meshes() {
        let checker = rules.checker().threads(2).spawn_bfs().join();
        if let Some(path) = checker.discovery(VERIFIES).or(checker.discovery(SIGNS)) {
            panic!("{what}: {path}");
        }
        assert!(checker.discovery(ENDS).is_some(), "{what}: it never ends");
        assert!(checker.discovery(RETURNS).is_some(), "{what}: no way back");
        assert!(checker.is_done(), "{what}: not every state was explored");
    }
}

#[test]
fn each_condition_is_needed() {
    let mut needed = Vec::new();
    for (what, rules, conditions) in meshes() {
        for condition in conditions {
            let mutant = Rules {
                ignored: Some(*condition),
                ..rules.clone()
            };
            let checker = mutant.checker().threads(2).spawn_bfs().join();
            let failed = checker.discovery(VERIFIES).or(checker.discovery(SIGNS));
            let Some(path) = failed else {
                panic!("{what}: nothing fails without the condition {condition:?}");
            };
            assert!(!path.last_state().verifies() || !path.last_state().signs_on());
            needed.push(*condition);
        }
    }
    // The others say that there is nothing to move to.
    let idle = Condition::ALL
        .into_iter()
        .filter(|one| !needed.contains(one));
    assert!(
        idle.eq(Condition::ALL
            .into_iter()
            .filter(|one| !one.may_be_forced()))
    );
}
