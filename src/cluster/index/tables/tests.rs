#![allow(clippy::unwrap_used)]
use std::process::Command;

use serde_json::json;

use super::*;
use crate::clock::UnixTime;

const UID: &str = "0b5a3f3e-1111-4222-8333-0123456789ab";

fn pod(name: &str, node: &str, phase: &str) -> PodObject {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": UID, "resourceVersion": "1",
            "deletionTimestamp": "1970-01-01T00:01:00Z",
            "annotations": { "linkerd.io/trust-root-sha256": "ab", "other": "x" },
            "labels": { "linkerd.io/control-plane-ns": "linkerd", "other": "x" },
        },
        "spec": { "serviceAccountName": "cart", "nodeName": node, "containers": [] },
        "status": { "phase": phase },
    }))
    .unwrap()
}

#[test]
fn a_pod_is_found_by_name_and_by_node() {
    let mut pods = Pods::default();
    pods.insert(pod("a", "", "Pending"));
    assert_eq!(pods.find("shop", "a").unwrap().node(), None);
    pods.insert(pod("a", "n1", "Running"));
    pods.insert(pod("b", "n1", "Succeeded"));
    assert_eq!((pods.len(), pods.on_node("n1").len()), (2, 2));
    let found = pods.find("shop", "a").unwrap();
    assert!(found.has_uid(UID) && !found.has_uid(&UID.to_uppercase()));
    assert_eq!(found.uid(), UID);
    assert_eq!(found.account(), "cart");
    assert_eq!(found.trust_root(), Some("ab"));
    assert!(found.is_injected_by_linkerd() && pods.all().count() == 2);
    assert_eq!(found.deletion(), Some(UnixTime::from_secs(60)));
    assert!(!found.has_ended() && pods.find("shop", "b").unwrap().has_ended());
    assert!(pods.find("shop", "c").is_none() && pods.find("other", "a").is_none());
}

/// The pod's author writes the annotation: it is stored only where it could be a digest.
#[test]
fn odd_annotations_are_not_stored() {
    let of = |annotations: serde_json::Value| {
        let mut pods = Pods::default();
        let object: PodObject = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "namespace": "shop", "uid": UID, "resourceVersion": "1",
                "annotations": annotations,
            },
        }))
        .unwrap();
        pods.insert(object);
        let found = pods.find("shop", "a").unwrap();
        let pooled = pods.pool.0.iter().map(|text| text.len()).sum::<usize>();
        assert!(pooled <= 200, "{pooled} bytes");
        found.trust_root().map(str::to_owned)
    };
    let digest = "0f".repeat(32);
    let key = "linkerd.io/trust-root-sha256";
    assert_eq!(of(json!({ key: digest.as_str() })), Some(digest.clone()));
    for odd in [
        String::new(),
        "ab".repeat(32) + "\n",
        "\u{1b}[31m".to_owned(),
        "a b".to_owned(),
        "\u{e4}".to_owned(),
        "\0".to_owned(),
        "a".repeat(129),
        "a".repeat(256 * 1024),
    ] {
        assert_eq!(of(json!({ key: odd.as_str() })), None, "{odd:.80?}");
    }
    for none in [
        json!(null),
        json!({}),
        json!({ key: null }),
        json!({ "linkerd.io/trust-root-sha256 ": digest.as_str() }),
        json!({ "Linkerd.io/trust-root-sha256": digest.as_str() }),
        json!({ "x".repeat(100_000): "y".repeat(100_000) }),
    ] {
        assert_eq!(of(none.clone()), None);
    }
}

/// This process in memory, in MiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() / 1024
}

const ALONE: &str = "cluster::index::tables::tests::a_hundred_thousand_pods";

/// In a process of its own, so that nothing else uses its memory.
#[test]
fn a_hundred_thousand_pods_fit() {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([ALONE, "--exact", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

/// Names as long as real ones: a deployment's pod has its replica set's hash and its own.
#[test]
#[ignore = "run by the test above, alone"]
fn a_hundred_thousand_pods() {
    let before = resident();
    let mut pods = Pods::default();
    for n in 0..100_000_u32 {
        let object: PodObject = serde_json::from_value(json!({
            "metadata": {
                "name": format!("checkout-service-{:04}-7d9c5b8f6d-{n:05}", n % 2000),
                "namespace": format!("team-namespace-{:03}", n % 500),
                "uid": format!("0b5a3f3e-1111-4222-8333-{n:012x}"),
                "resourceVersion": n.to_string(),
                "annotations": { "linkerd.io/trust-root-sha256": "ab".repeat(32) },
            },
            "spec": {
                "serviceAccountName": format!("checkout-service-{:04}", n % 2000),
                "nodeName": format!("ip-10-0-{}-{}.eu-west-1.compute.internal", n % 20, n % 50),
            },
            "status": { "phase": "Running" },
        }))
        .unwrap();
        pods.insert(object);
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(pods.len(), 100_000);
    assert!(
        pods.find(
            "team-namespace-007",
            "checkout-service-0007-7d9c5b8f6d-00007"
        )
        .is_some()
    );
    // Less than half of the documented limit, because a list is in memory beside the table that it
    // replaces.
    assert!(grown < 50, "{grown} MiB");
}

#[test]
fn deleted_objects_leave_nothing_behind() {
    let mut pods = Pods::default();
    for round in 0..3 {
        let node = format!("n{round}");
        pods.insert(pod("a", &node, "Running"));
        pods.insert(pod("a", &node, "Running"));
        pods.remove(&pod("a", &node, "Running"));
        pods.remove(&pod("a", &node, "Running"));
    }
    assert_eq!(pods.len(), 0);
    assert!(pods.by_name.is_empty() && pods.by_node.is_empty());
    assert!(pods.pool.0.is_empty(), "{:?}", pods.pool);
    let mut accounts = Accounts::default();
    let object: AccountObject = serde_json::from_value(json!({
        "metadata": { "name": "cart", "namespace": "shop", "uid": "odd", "resourceVersion": "1" }
    }))
    .unwrap();
    accounts.insert(object.clone());
    accounts.insert(object.clone());
    assert!(accounts.find("shop", "cart").unwrap().has_uid("odd"));
    assert_eq!(accounts.len(), 1);
    accounts.remove(&object);
    assert_eq!(accounts.len(), 0);
    assert!(accounts.by_name.is_empty() && accounts.pool.0.is_empty());
}
