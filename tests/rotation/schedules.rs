//! Long random schedules of larger meshes.

use proptest::prelude::*;
use rootbridge::trust::rotation::Condition;

use crate::mesh::Mesh;
use crate::rules::Rules;

fn large(ignored: Option<Condition>) -> Rules {
    Rules {
        servers: 3,
        clusters: 3,
        sidecars: 4,
        pods: 3,
        proxies: 2,
        watchers: 2,
        subordinate: true,
        edits: 6,
        losses: 6,
        ignored,
    }
}

/// Follows a schedule: each number chooses one of what can happen. False if a handshake failed.
fn follow(rules: &Rules, schedule: &[u16]) -> bool {
    let mut mesh = Mesh::new(rules);
    for choice in schedule {
        let events = mesh.events(rules);
        let Some(event) = events.get(usize::from(*choice) % events.len().max(1)) else {
            return true;
        };
        mesh = mesh.after(event, rules);
        if !mesh.verifies() || !mesh.signs_on() {
            return false;
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_handshake_fails_in_long_schedules(schedule in prop::collection::vec(any::<u16>(), 0..600)) {
        prop_assert!(follow(&large(None), &schedule));
    }
}
