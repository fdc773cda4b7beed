//! Authorities that are removed, and made again.

use rootbridge::ledger::{
    AnchorState, CaRequestChange, CaRequestState, Change, IssuerState, Kind, LedgerError,
    PlannedKeyChange, Record, Role,
};
use rootbridge::x509::KeyKind;

use crate::contract_records::{apply, published};
use crate::support::{Fixture, Key, Store, add_certificate, add_issuer, operator, place};

fn remove(fixture: &Fixture) -> Change {
    Change::RemoveAuthority {
        trust_domain: fixture.domain.clone(),
        reason: "a wrong name, CHG-9".into(),
    }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> String {
    match result {
        Err(LedgerError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// With all that it has, and another one of the name goes on above its bundles.
pub async fn what_has_never_issued_is_removed(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let other = Fixture::build_for(store.other().await, "other.example").await;
    let ledger = &*fixture.ledger;
    // The request of a pending key, and a key that is planned.
    let pending = Key::new();
    let domain = &fixture.domain;
    apply(&fixture, add_issuer(domain, &pending, Role::Issuing))
        .await
        .unwrap();
    let begin = CaRequestChange::Begin {
        trust_domain: domain.clone(),
        upstream: "corp".into(),
        location: place("main"),
        kind: KeyKind::EcdsaP256,
        path_len: Some(0),
        issuer: Some(pending.id()),
    };
    apply(&fixture, Change::Request(begin)).await.unwrap();
    let plan = PlannedKeyChange::Plan {
        trust_domain: domain.clone(),
        role: Role::Root,
        location: place("other"),
        kind: KeyKind::EcdsaP256,
        path_len: Some(1),
    };
    apply(&fixture, Change::PlannedKey(plan)).await.unwrap();
    let (sequence, _) = published(ledger, &fixture).await;

    let before = ledger.revision().await.unwrap();
    let applied = apply(&fixture, remove(&fixture)).await.unwrap();
    assert!(applied.revision > before, "servers see that it is gone");
    assert_eq!(applied.bundles, [], "a bundle is never empty");
    let snapshot = ledger.snapshot().await.unwrap();
    let [left] = snapshot.authorities.as_slice() else {
        panic!("{snapshot:?}")
    };
    assert_eq!(left.trust_domain, other.domain);
    assert_eq!(ledger.authority(domain).await.unwrap(), None);
    let [removed] = snapshot.removed.as_slice() else {
        panic!("{snapshot:?}")
    };
    assert_eq!(removed.trust_domain, *domain);
    let is_retired = |state| state == IssuerState::Retired;
    assert!(removed.issuers.iter().all(|each| is_retired(each.state)));
    let mut anchors = removed.anchors.iter();
    assert!(anchors.all(|each| each.state == AnchorState::Retired));
    assert_eq!(removed.planned_keys, []);
    let request = removed.requests.last().unwrap();
    assert_eq!(request.state, CaRequestState::Cancelled);
    assert!(request.problem.as_ref().unwrap().contains("CHG-9"));
    // Of a key that is in the token still, what it was is known.
    let (authority, _) = snapshot.issuer(&pending.id()).unwrap();
    assert_eq!(authority.trust_domain, *domain);
    let unknown = apply(&fixture, remove(&fixture)).await.unwrap_err();
    assert!(
        matches!(&unknown, LedgerError::UnknownAuthority(gone) if gone == domain),
        "{unknown}"
    );
    let late = ledger.record(fixture.leaf("bar")).await.unwrap_err();
    assert!(
        matches!(late, LedgerError::IssuerNotActive { .. }),
        "{late}"
    );

    let create = || Change::CreateAuthority {
        trust_domain: domain.clone(),
    };
    apply(&fixture, create()).await.unwrap();
    let refused = refusal(apply(&fixture, create()).await);
    assert!(refused.contains("already has an authority"), "{refused}");
    let root = Key::new();
    let der = root.root("mesh.example second root");
    apply(&fixture, add_issuer(domain, &root, Role::Root))
        .await
        .unwrap();
    apply(&fixture, add_certificate(&root, &der, &der))
        .await
        .unwrap();
    assert_eq!(published(ledger, &fixture).await, (sequence + 1, vec![der]));
    assert_eq!(ledger.snapshot().await.unwrap().removed, []);
}

/// Whatever became of the first certificate: nobody knows who has it.
pub async fn what_has_issued_is_not_removed(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    // A certification request of the issuing key is no certificate.
    let mut request = fixture.leaf("bar");
    (request.kind, request.serial) = (Kind::Request, None);
    (
        request.not_before,
        request.not_after,
        request.ca_certificate,
    ) = (None, None, None);
    assert!(matches!(
        ledger.record(request).await.unwrap(),
        Record::New(_)
    ));
    apply(&fixture, remove(&fixture)).await.unwrap();

    let fixture = Fixture::build_for(store.other().await, "other.example").await;
    ledger.record(fixture.leaf("bar")).await.unwrap();
    let before = ledger.snapshot().await.unwrap();
    let refused = refusal(apply(&fixture, remove(&fixture)).await);
    let says = "the authority of other.example has issued";
    assert!(
        refused.contains(says) && refused.contains("ca retire"),
        "{refused}"
    );
    let both = Change::All(vec![
        Change::SetIssuerState {
            issuer: fixture.issuing.id(),
            state: IssuerState::Retired,
        },
        remove(&fixture),
    ]);
    let refused = ledger.apply(both, &operator()).await;
    assert!(refusal(refused).contains(says), "a retired one as well");
    assert_eq!(ledger.snapshot().await.unwrap(), before);
}
