//! The lines of a watch of pods: refused with a short reason, or each pod that remains is there once, and on
//! its node.

use std::collections::BTreeSet;

use rootbridge::cluster::replay_watch;

use super::{Outcome, assert_printable};

pub fn check(data: &[u8]) -> Outcome {
    let pods = match replay_watch(data) {
        Ok(pods) => pods,
        Err(error) => {
            assert_printable(error);
            return Outcome::Refused;
        }
    };
    let names: BTreeSet<_> = pods
        .iter()
        .map(|(pod, _)| (pod.namespace(), pod.name()))
        .collect();
    assert_eq!(names.len(), pods.len());
    for (pod, of_node) in &pods {
        assert!(pod.has_uid(&pod.uid()));
        assert!(pod.node().is_none_or(|node| !node.is_empty()));
        let same_node = pods.iter().filter(|(other, _)| other.node() == pod.node());
        match pod.node() {
            Some(_) => {
                assert_eq!(of_node.len(), same_node.count());
                assert!(of_node.iter().all(|other| other.node() == pod.node()));
            }
            None => assert!(of_node.is_empty()),
        }
        // Operators see it.
        assert!(pod.trust_root().is_none_or(|root| {
            (1..=128).contains(&root.len()) && root.bytes().all(|byte| byte.is_ascii_graphic())
        }));
    }
    Outcome::of(!pods.is_empty())
}
