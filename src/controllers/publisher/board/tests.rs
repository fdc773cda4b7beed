#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::UnixTime;
use crate::controllers::publisher::desired::found;
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
    });
    bundles.current(&trust_domain).unwrap()
}

/// Istio's target, and namespaces that are known.
fn board(namespaces: &[&str], now: Instant) -> Board {
    let text = "[istio]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'istio'\n";
    let all = targets(toml::from_str(text).unwrap()).unwrap();
    let mut board = Board::new("east", all.into_iter().map(Arc::new));
    board.hear_namespaces(News::Begin, now);
    for name in namespaces {
        board.hear_namespaces(News::Listed(spot(name), seen(false)), now);
    }
    board.hear_namespaces(News::Complete, now);
    board.hear_objects(0, News::Begin, now);
    board.hear_objects(0, News::Complete, now);
    board
}

fn spot(name: &str) -> Spot {
    Some(name.to_owned())
}

fn seen(is_going: bool) -> NamespaceSeen {
    NamespaceSeen {
        labels: BTreeMap::new(),
        is_going,
    }
}

/// What a write of this object would leave.
fn written(write: &Write, version: u64) -> Found {
    let object = serde_json::from_value(write.object.clone()).unwrap();
    Found {
        version,
        ..found(&write.target, &object)
    }
}

fn edited(version: u64) -> Found {
    Found {
        version,
        value: Some([9; 32]),
        dressed: true,
        other: Some("somebody".to_owned()),
    }
}

fn names(board: &mut Board, now: Instant) -> Vec<String> {
    let next = || board.next(now).and_then(|write| write.spot);
    std::iter::from_fn(next).collect()
}

#[test]
fn nothing_is_written_before_all_is_known() {
    let now = Instant::now();
    let text = "[istio]\ntrust_domain = 'td'\nclusters = ['east']\npreset = 'istio'\n";
    let all = targets(toml::from_str(text).unwrap()).unwrap();
    let mut board = Board::new("east", all.into_iter().map(Arc::new));
    board.desire(0, &bundle(1), now);
    board.hear_objects(0, News::Begin, now);
    board.hear_objects(0, News::Complete, now);
    board.hear_namespaces(News::Begin, now);
    board.hear_namespaces(News::Listed(spot("a"), seen(false)), now);
    assert!(!board.is_ready(now) && board.next(now).is_none());
    board.hear_namespaces(News::Complete, now);
    assert_eq!(names(&mut board, now), ["a"]);
}

#[test]
fn fresh_namespaces_go_first_and_going_ones_are_left_out() {
    let now = Instant::now();
    let mut board = board(&["a", "b"], now);
    board.hear_namespaces(News::Listed(spot("going"), seen(true)), now);
    board.desire(0, &bundle(1), now);
    board.hear_namespaces(News::Changed(spot("new"), seen(false)), now);
    board.hear_namespaces(News::Changed(spot("b"), seen(true)), now);
    assert_eq!(names(&mut board, now), ["new", "a"]);
}

#[test]
fn what_a_write_left_is_in_step_until_it_is_undone_or_outdated() {
    let now = Instant::now();
    let mut board = board(&["a"], now);
    board.desire(0, &bundle(1), now);
    let write = board.next(now).unwrap();
    // Under way, it is not written twice.
    board.hear_objects(0, News::Changed(spot("a"), edited(3)), now);
    assert!(board.next(now).is_none());
    board.conclude(0, &spot("a"), Outcome::Written(written(&write, 5)), now);
    assert!(board.next(now).is_none());
    // An echo of what was before.
    board.hear_objects(0, News::Changed(spot("a"), edited(4)), now);
    assert!(board.next(now).is_none());
    board.hear_objects(0, News::Gone(spot("a"), 6), now);
    let write = board.next(now).unwrap();
    board.conclude(0, &spot("a"), Outcome::Written(written(&write, 7)), now);
    board.desire(0, &bundle(2), now);
    assert_eq!(names(&mut board, now), ["a"]);
}

#[test]
fn a_failed_write_waits_longer_each_time_and_not_after_a_change() {
    let now = Instant::now();
    let mut board = board(&["a"], now);
    board.desire(0, &bundle(1), now);
    assert!(board.next(now).is_some());
    let refused = || Outcome::Refused("403".to_owned());
    board.conclude(0, &spot("a"), refused(), now);
    assert!(board.next(now).is_none());
    let later = now + 2 * SECOND;
    assert!(board.next(later).is_some());
    board.conclude(0, &spot("a"), refused(), later);
    assert!(board.next(later + SECOND).is_none());
    assert_eq!(board.slots[0].standings[&spot("a")].failures, 2);
    board.hear_objects(0, News::Changed(spot("a"), edited(9)), later);
    assert!(board.next(later).is_some());
    // In a namespace that goes it is no failure.
    board.conclude(0, &spot("a"), Outcome::NamespaceGone, later);
    board.hear_namespaces(News::Changed(spot("a"), seen(true)), later);
    assert!(board.next(later + 600 * SECOND).is_none());
}

#[test]
fn a_fighter_is_answered_ever_more_slowly() {
    let now = Instant::now();
    let mut board = board(&["a"], now);
    board.desire(0, &bundle(1), now);
    let mut version = 1;
    for round in 0..5 {
        let write = board
            .next(now)
            .unwrap_or_else(|| unreachable!("round {round}"));
        board.conclude(
            0,
            &spot("a"),
            Outcome::Written(written(&write, version)),
            now,
        );
        board.hear_objects(0, News::Changed(spot("a"), edited(version + 1)), now);
        version += 2;
    }
    // However often he writes meanwhile, the wait is neither shortened nor drawn out.
    for n in 1..5 {
        let at = now + n * SECOND;
        board.hear_objects(0, News::Changed(spot("a"), edited(version)), at);
        version += 1;
        assert!(board.next(at).is_none(), "after {n} s");
    }
    assert!(board.next(now + 5 * SECOND).is_some());
}

#[test]
fn what_a_new_listing_leaves_out_has_gone() {
    let now = Instant::now();
    let mut board = board(&["a", "b"], now);
    board.desire(0, &bundle(1), now);
    while let Some(write) = board.next(now) {
        board.conclude(0, &write.spot, Outcome::Written(written(&write, 5)), now);
    }
    board.hear_objects(0, News::Broken("cut".to_owned()), now);
    assert_eq!(board.slots[0].listing.trouble(), Some("cut"));
    board.hear_namespaces(News::Begin, now);
    board.hear_namespaces(News::Listed(spot("b"), seen(false)), now);
    board.hear_namespaces(News::Complete, now);
    board.hear_objects(0, News::Begin, now);
    board.hear_objects(0, News::Complete, now);
    assert_eq!(board.slots[0].listing.trouble(), None);
    assert_eq!(names(&mut board, now), ["b"]);
}
