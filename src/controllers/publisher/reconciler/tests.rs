#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::UnixTime;
use crate::cluster::ApiError;
use crate::controllers::publisher::desired::observe;
use crate::controllers::publisher::targets;
use crate::ledger::{AuthorityRecord, BundleRecord, Snapshot};
use crate::trust::Bundles;
use crate::x509::TrustDomain;

const SECOND: Duration = Duration::from_secs(1);

fn bundle(sequence: u64) -> Arc<PublishedBundle> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let anchor = params.self_signed(&key).unwrap().der().to_vec();
    let trust_domain = TrustDomain::parse("td").unwrap();
    let at = UnixTime::from_secs(0);
    let authority = AuthorityRecord {
        id: 1,
        trust_domain: trust_domain.clone(),
        created_at: at,
        created_by: String::new(),
        issuers: Vec::new(),
        anchors: Vec::new(),
        requests: Vec::new(),
        planned_keys: Vec::new(),
        bundle: Some(BundleRecord {
            sequence,
            digest: [0; 32],
            anchors: vec![anchor],
            created_at: at,
        }),
    };
    let bundles = Bundles::default();
    bundles.refresh(&Snapshot {
        revision: 1,
        authorities: vec![authority],
        removed: Vec::new(),
    });
    bundles.current(&trust_domain).unwrap()
}

/// With Istio's target and complete lists.
fn reconciler(namespaces: &[&str], now: Instant) -> Reconciler {
    let text = "[istio]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'istio'\n";
    let all = targets(toml::from_str(text).unwrap()).unwrap();
    let mut reconciler = Reconciler::new("east", all.into_iter().map(Arc::new));
    reconciler.on_namespace_event(WatchEvent::ListStarted, now);
    for name in namespaces {
        reconciler.on_namespace_event(WatchEvent::Listed((key(name), seen(false))), now);
    }
    reconciler.on_namespace_event(WatchEvent::ListComplete(now.into()), now);
    reconciler.on_object_event(0, WatchEvent::ListStarted, now);
    reconciler.on_object_event(0, WatchEvent::ListComplete(now.into()), now);
    reconciler
}

fn cut() -> ApiError {
    ApiError::Unreachable("cut".to_owned())
}

fn key(name: &str) -> ObjectKey {
    Some(name.to_owned())
}

fn seen(is_terminating: bool) -> NamespaceState {
    NamespaceState {
        labels: BTreeMap::new(),
        is_terminating,
    }
}

/// What the API server answers to a write.
fn written(write: &Write, version: u64) -> Observed {
    let object = serde_json::from_value(write.object.clone()).unwrap();
    Observed {
        version,
        ..observe(&write.target, &object)
    }
}

fn edited(version: u64) -> Observed {
    Observed {
        version,
        value_hash: Some([9; 32]),
        labels_match: true,
        other_manager: Some("somebody".to_owned()),
    }
}

fn names(reconciler: &mut Reconciler, now: Instant) -> Vec<String> {
    let next = || reconciler.next(now).and_then(|write| write.key);
    std::iter::from_fn(next).collect()
}

#[test]
fn nothing_is_written_before_the_lists_are_complete() {
    let now = Instant::now();
    let text = "[istio]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'istio'\n";
    let all = targets(toml::from_str(text).unwrap()).unwrap();
    let mut reconciler = Reconciler::new("east", all.into_iter().map(Arc::new));
    reconciler.set_bundle(0, &bundle(1), now);
    reconciler.on_object_event(0, WatchEvent::ListStarted, now);
    reconciler.on_object_event(0, WatchEvent::ListComplete(now.into()), now);
    reconciler.on_namespace_event(WatchEvent::ListStarted, now);
    reconciler.on_namespace_event(WatchEvent::Listed((key("a"), seen(false))), now);
    assert!(!reconciler.is_ready(now) && reconciler.next(now).is_none());
    reconciler.on_namespace_event(WatchEvent::ListComplete(now.into()), now);
    assert_eq!(names(&mut reconciler, now), ["a"]);
}

#[test]
fn new_namespaces_go_first_and_terminating_ones_are_left_out() {
    let now = Instant::now();
    let mut reconciler = reconciler(&["a", "b"], now);
    reconciler.on_namespace_event(WatchEvent::Listed((key("going"), seen(true))), now);
    reconciler.set_bundle(0, &bundle(1), now);
    reconciler.on_namespace_event(WatchEvent::Changed((key("new"), seen(false))), now);
    reconciler.on_namespace_event(WatchEvent::Changed((key("b"), seen(true))), now);
    assert_eq!(names(&mut reconciler, now), ["new", "a"]);
}

#[test]
fn a_written_object_is_up_to_date_until_it_changes_or_the_bundle_does() {
    let now = Instant::now();
    let mut reconciler = reconciler(&["a"], now);
    reconciler.set_bundle(0, &bundle(1), now);
    let write = reconciler.next(now).unwrap();
    // A write in progress is not repeated.
    reconciler.on_object_event(0, WatchEvent::Changed((key("a"), edited(3))), now);
    assert!(reconciler.next(now).is_none());
    reconciler.on_outcome(0, &key("a"), Outcome::Written(written(&write, 5)), now);
    assert!(reconciler.next(now).is_none());
    // An event from before the write.
    reconciler.on_object_event(0, WatchEvent::Changed((key("a"), edited(4))), now);
    assert!(reconciler.next(now).is_none());
    reconciler.on_object_event(0, WatchEvent::Deleted((key("a"), edited(6))), now);
    let write = reconciler.next(now).unwrap();
    reconciler.on_outcome(0, &key("a"), Outcome::Written(written(&write, 7)), now);
    reconciler.set_bundle(0, &bundle(2), now);
    assert_eq!(names(&mut reconciler, now), ["a"]);
}

#[test]
fn a_failed_write_waits_longer_each_time_but_not_after_a_change() {
    let now = Instant::now();
    let mut reconciler = reconciler(&["a"], now);
    reconciler.set_bundle(0, &bundle(1), now);
    assert!(reconciler.next(now).is_some());
    let refused = || Outcome::Refused("403".to_owned());
    reconciler.on_outcome(0, &key("a"), refused(), now);
    assert!(reconciler.next(now).is_none());
    let later = now + 2 * SECOND;
    assert!(reconciler.next(later).is_some());
    reconciler.on_outcome(0, &key("a"), refused(), later);
    assert!(reconciler.next(later + SECOND).is_none());
    let object = &reconciler.targets[0].objects[&key("a")];
    assert_eq!(object.failure.as_deref(), Some("403"));
    reconciler.on_object_event(0, WatchEvent::Changed((key("a"), edited(9))), later);
    assert!(reconciler.next(later).is_some());
    // A terminating namespace is not a failure.
    reconciler.on_outcome(0, &key("a"), Outcome::NamespaceGone, later);
    reconciler.on_namespace_event(WatchEvent::Changed((key("a"), seen(true))), later);
    assert!(reconciler.next(later + 600 * SECOND).is_none());
}

#[test]
fn another_writer_is_answered_more_and_more_slowly() {
    let now = Instant::now();
    let mut reconciler = reconciler(&["a"], now);
    reconciler.set_bundle(0, &bundle(1), now);
    let mut version = 1;
    for round in 0..5 {
        let write = reconciler
            .next(now)
            .unwrap_or_else(|| unreachable!("round {round}"));
        reconciler.on_outcome(
            0,
            &key("a"),
            Outcome::Written(written(&write, version)),
            now,
        );
        reconciler.on_object_event(0, WatchEvent::Changed((key("a"), edited(version + 1))), now);
        version += 2;
    }
    // Further overwrites change nothing about the wait.
    for n in 1..5 {
        let at = now + n * SECOND;
        reconciler.on_object_event(0, WatchEvent::Changed((key("a"), edited(version))), at);
        version += 1;
        assert!(reconciler.next(at).is_none(), "after {n} s");
    }
    assert!(reconciler.next(now + 5 * SECOND).is_some());
}

#[test]
fn an_object_missing_from_a_new_list_is_gone() {
    let now = Instant::now();
    let mut reconciler = reconciler(&["a", "b"], now);
    reconciler.set_bundle(0, &bundle(1), now);
    while let Some(write) = reconciler.next(now) {
        reconciler.on_outcome(0, &write.key, Outcome::Written(written(&write, 5)), now);
    }
    reconciler.on_object_event(0, WatchEvent::Failed(cut()), now);
    assert_eq!(
        reconciler.targets[0].list.error(),
        Some(cut().to_string().as_str())
    );
    reconciler.on_namespace_event(WatchEvent::ListStarted, now);
    reconciler.on_namespace_event(WatchEvent::Listed((key("b"), seen(false))), now);
    reconciler.on_namespace_event(WatchEvent::ListComplete(now.into()), now);
    reconciler.on_object_event(0, WatchEvent::ListStarted, now);
    reconciler.on_object_event(0, WatchEvent::ListComplete(now.into()), now);
    assert_eq!(reconciler.targets[0].list.error(), None);
    assert_eq!(names(&mut reconciler, now), ["b"]);
}
