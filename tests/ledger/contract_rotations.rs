//! Rotations, and the certificates that they wait for: what every ledger promises.

use rootbridge::ledger::{
    Change, Intent, IssuerState, Kind, LedgerError, Live, LiveCertificates, LiveFilter,
    RotationChange, RotationKind, RotationParts, RotationPhase, RotationRecord,
};
use rootbridge::x509::{KeyKind, Serial};

use crate::contract_records::{apply, foreign, set};
use crate::support::{DAY, Fixture, Key, NOW, Store, failed, new, sha256};

fn begin(fixture: &Fixture) -> Change {
    Change::Rotation(RotationChange::Begin {
        trust_domain: fixture.domain.clone(),
        kind: RotationKind::NewRoot,
        phase: RotationPhase::Prepare,
        parts: RotationParts {
            old_issuer: Some(fixture.issuing.id()),
            old_anchor: Some(sha256(&fixture.root_der)),
            ..RotationParts::default()
        },
        key: KeyKind::EcdsaP256,
        token: "first".into(),
    })
}

fn moved(rotation: &RotationRecord, to: RotationPhase, forced: Option<&str>) -> Change {
    Change::Rotation(RotationChange::Move {
        rotation: rotation.id,
        from: rotation.phase,
        to,
        backwards: rotation.backwards,
        forced: forced.map(str::to_owned),
    })
}

async fn newest(fixture: &Fixture) -> RotationRecord {
    fixture.ledger.rotations().await.unwrap().pop().unwrap()
}

pub async fn one_rotation_of_an_authority_is_open(store: &dyn Store) {
    use RotationPhase::{Converge, Drain, Prepare, Publish, Withdrawn};
    let fixture = Fixture::build(store.server().await).await;
    assert_eq!(fixture.ledger.rotations().await.unwrap(), []);
    apply(&fixture, begin(&fixture)).await.unwrap();
    let started = newest(&fixture).await;
    assert_eq!(
        (started.phase, started.kind),
        (Prepare, RotationKind::NewRoot)
    );
    assert_eq!(started.parts.old_issuer, Some(fixture.issuing.id()));
    assert_eq!((started.started_at, started.ended_at), (NOW, None));
    let again = apply(&fixture, begin(&fixture)).await.unwrap_err();
    assert_eq!(again, LedgerError::RotationOpen(fixture.domain.clone()));

    // It does not leave its preparation before it says what arrives.
    let early = apply(&fixture, moved(&started, Publish, None)).await;
    assert!(matches!(early, Err(LedgerError::Refused(_))), "{early:?}");
    let prepared = RotationChange::Prepared {
        rotation: started.id,
        new_issuer: fixture.issuing.id(),
        new_anchor: [7; 32],
    };
    apply(&fixture, Change::Rotation(prepared)).await.unwrap();
    apply(&fixture, moved(&started, Publish, None))
        .await
        .unwrap();
    // Who has read an older phase moves nothing.
    let stale = apply(&fixture, moved(&started, Publish, None)).await;
    let expected = LedgerError::RotationMoved {
        rotation: started.id,
        phase: Publish,
    };
    assert_eq!(stale.unwrap_err(), expected);
    let published = newest(&fixture).await;
    apply(&fixture, moved(&published, Converge, None))
        .await
        .unwrap();
    let forced = moved(&newest(&fixture).await, Drain, Some("the cluster is gone"));
    apply(&fixture, forced).await.unwrap();
    let drains = newest(&fixture).await;
    assert_eq!(drains.parts.new_anchor, Some([7; 32]));
    let back = Change::Rotation(RotationChange::Move {
        rotation: drains.id,
        from: Drain,
        to: Drain,
        backwards: true,
        forced: None,
    });
    apply(&fixture, back).await.unwrap();
    apply(&fixture, moved(&newest(&fixture).await, Withdrawn, None))
        .await
        .unwrap();
    // Another process reads the same, with each step.
    let ended = store
        .other()
        .await
        .rotations()
        .await
        .unwrap()
        .pop()
        .unwrap();
    let steps: Vec<_> = ended
        .steps
        .iter()
        .map(|step| (step.phase, step.backwards, step.forced.as_deref()))
        .collect();
    let expected = [
        (Prepare, false, None),
        (Publish, false, None),
        (Converge, false, None),
        (Drain, false, Some("the cluster is gone")),
        (Drain, true, None),
        (Withdrawn, true, None),
    ];
    assert_eq!(steps, expected);
    assert_eq!(ended.ended_at, Some(NOW));
    apply(&fixture, begin(&fixture)).await.unwrap();
}

/// A leaf of a pod, returned with the bundle of this digest.
fn leaf(fixture: &Fixture, account: &str, pod: Option<&str>, digest: [u8; 32]) -> Intent {
    let mut intent = fixture.leaf(account);
    intent.caller.pod = pod.map(str::to_owned);
    intent.bundle_digest = Some(digest);
    intent
}

async fn live(fixture: &Fixture, which: Live) -> LiveCertificates {
    let filter = LiveFilter {
        trust_domain: fixture.domain.clone(),
        now: NOW,
        which,
        limit: 10,
    };
    fixture.ledger.live_certificates(filter).await.unwrap()
}

fn names(live: &LiveCertificates) -> Vec<(&str, u64)> {
    let holders = live.holders.iter();
    holders
        .map(|each| (each.subject.rsplit('/').next().unwrap(), each.certificates))
        .collect()
}

pub async fn who_holds_an_older_bundle_is_known(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let old = fixture
        .ledger
        .bundle(&fixture.domain, None)
        .await
        .unwrap()
        .unwrap();
    let arriving = Key::new().root("arriving");
    apply(&fixture, foreign(&fixture, &arriving, None))
        .await
        .unwrap();
    let both = fixture
        .ledger
        .bundle(&fixture.domain, None)
        .await
        .unwrap()
        .unwrap();
    let issue = async |account: &str, pod: Option<&str>, digest| {
        fixture.issue(leaf(&fixture, account, pod, digest)).await;
    };
    // Renewed since; not renewed; renewed by another pod; without a pod it is not known who renewed.
    issue("renewed", Some("foo/a/1"), old.digest).await;
    issue("renewed", Some("foo/a/1"), both.digest).await;
    issue("older", Some("foo/b/1"), old.digest).await;
    issue("older", Some("foo/b/1"), old.digest).await;
    issue("other", Some("foo/c/1"), old.digest).await;
    issue("other", Some("foo/c/2"), both.digest).await;
    issue("nowhere", None, old.digest).await;
    issue("nowhere", None, both.digest).await;
    // An answer that was never given is no bundle received.
    issue("refused", Some("foo/d/1"), old.digest).await;
    let id = new(fixture
        .ledger
        .record(leaf(&fixture, "refused", Some("foo/d/1"), both.digest))
        .await
        .unwrap());
    fixture
        .ledger
        .conclude(id, failed("the HSM failed"))
        .await
        .unwrap();
    // An older answer may still be under way when the renewal has arrived.
    new(fixture
        .ledger
        .record(leaf(&fixture, "open", Some("foo/f/1"), old.digest))
        .await
        .unwrap());
    issue("open", Some("foo/f/1"), both.digest).await;
    // It has expired.
    let mut expired = leaf(&fixture, "expired", Some("foo/e/1"), old.digest);
    expired.not_after = Some(NOW);
    fixture.issue(expired).await;

    let without = |received_before| Live::WithoutAnchor {
        anchor: sha256(&arriving),
        received_before,
    };
    let found = live(&fixture, without(NOW.plus(DAY))).await;
    assert_eq!(
        names(&found),
        [
            ("nowhere", 1),
            ("older", 2),
            ("open", 1),
            ("other", 1),
            ("refused", 1)
        ]
    );
    assert_eq!((found.total, found.until), (6, Some(NOW.plus(DAY))));
    assert_eq!(found.holders[1].pod.as_deref(), Some("foo/b/1"));
    // A renewal counts once its answer must have arrived.
    let found = live(&fixture, without(NOW)).await;
    assert_eq!(
        names(&found),
        [
            ("nowhere", 1),
            ("older", 2),
            ("open", 1),
            ("other", 1),
            ("refused", 1),
            ("renewed", 1)
        ]
    );
    // The old root is in every bundle.
    let found = live(
        &fixture,
        Live::WithoutAnchor {
            anchor: sha256(&fixture.root_der),
            received_before: NOW,
        },
    )
    .await;
    assert_eq!(found, LiveCertificates::default());
}

pub async fn nothing_alive_is_retired(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    apply(&fixture, begin(&fixture)).await.unwrap();
    let prepared = RotationChange::Prepared {
        rotation: newest(&fixture).await.id,
        new_issuer: fixture.issuing.id(),
        new_anchor: [7; 32],
    };
    apply(&fixture, Change::Rotation(prepared)).await.unwrap();
    let rotation = newest(&fixture).await;
    let below = || Live::below(&rotation.parts, false);
    assert_eq!(live(&fixture, below()).await, LiveCertificates::default());

    // What is only recorded may be signed; a CA of somebody else lives until its own end.
    let pending = new(fixture
        .ledger
        .record(fixture.leaf("pending"))
        .await
        .unwrap());
    let mut subordinate = fixture.leaf("subordinate");
    subordinate.kind = Kind::Ca;
    subordinate.not_after = Some(NOW.plus(2 * DAY));
    subordinate.serial = Some(Serial::new(NOW));
    fixture.issue(subordinate).await;
    // The CA certificates of this authority's own keys are nobody else's.
    let mut own = fixture.leaf("own");
    own.kind = Kind::Ca;
    own.spki_sha256 = fixture.issuing.public.fingerprint();
    fixture.issue(own).await;
    let found = live(&fixture, below()).await;
    assert_eq!(names(&found), [("subordinate", 1), ("pending", 1)]);
    assert!(found.holders[0].is_ca && !found.holders[1].is_ca);
    assert_eq!(found.until, Some(NOW.plus(2 * DAY)));

    let retire = || {
        Change::All(vec![
            set(&fixture.issuing, IssuerState::Retired),
            moved(&rotation, RotationPhase::Retire, None),
        ])
    };
    let refused = apply(&fixture, retire()).await.unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Refused(why) if why.contains("2 certificates")),
        "{refused}"
    );
    assert_eq!(newest(&fixture).await.phase, RotationPhase::Prepare);
    fixture
        .ledger
        .conclude(pending, failed("no signature"))
        .await
        .unwrap();
    assert_eq!(names(&live(&fixture, below()).await), [("subordinate", 1)]);
    let forced = moved(&rotation, RotationPhase::Retire, Some("its holder agrees"));
    apply(&fixture, forced).await.unwrap();
    assert_eq!(newest(&fixture).await.phase, RotationPhase::Retire);
}
