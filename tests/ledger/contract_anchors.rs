//! Anchors and bundles: what every ledger promises.

use rootbridge::ledger::{AnchorOrigin, AnchorState, Change, IssuerState, LedgerError, Role};

use crate::contract_records::{apply, authority, foreign, published, retire_anchor, set};
use crate::support::{DAY, Fixture, Key, NOW, Store, add_certificate, add_issuer, domain};

pub async fn foreign_anchors_are_added_and_removed(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let (a, b) = (Key::new().root("a"), Key::new().root("b"));
    apply(&fixture, foreign(&fixture, &a, Some(NOW.plus(DAY))))
        .await
        .unwrap();
    let applied = apply(&fixture, foreign(&fixture, &b, None)).await.unwrap();
    assert_eq!(applied.bundles[0].sequence, 3);
    // What is published already stays as it is, also its end.
    let again = apply(&fixture, foreign(&fixture, &a, None)).await.unwrap();
    assert_eq!((again.revision, again.bundles.len()), (applied.revision, 0));
    assert_eq!(again.added_anchors, [[0; 32]; 0]);
    let all = published(&*fixture.ledger, &fixture).await.1;
    assert_eq!(all, [fixture.root_der.clone(), a.clone(), b.clone()]);
    let record = authority(&fixture).await.anchors[2].clone();
    assert_eq!(
        record.expires_at,
        Some(NOW.plus(365 * DAY)),
        "the certificate's own end"
    );
    assert_eq!(
        (record.origin, record.source.as_str()),
        (AnchorOrigin::Foreign, "old mesh")
    );

    // Time passes. Before its end nothing is written, not even that someone looked.
    let revision = fixture.ledger.revision().await.unwrap();
    let refresh = |now| Change::RefreshBundles { now };
    let applied = apply(&fixture, refresh(NOW.plus(DAY / 2))).await.unwrap();
    assert_eq!((applied.revision, applied.bundles.len()), (revision, 0));
    let applied = apply(&fixture, refresh(NOW.plus(DAY))).await.unwrap();
    assert_eq!(
        (applied.revision, applied.bundles[0].sequence),
        (revision + 1, 4)
    );
    assert_eq!(
        published(&*fixture.ledger, &fixture).await.1,
        [fixture.root_der.clone(), b.clone()]
    );

    store.clock().set(NOW.plus(DAY));
    apply(&fixture, retire_anchor(&fixture, &b)).await.unwrap();
    assert_eq!(
        published(&*fixture.ledger, &fixture).await.1,
        std::slice::from_ref(&fixture.root_der)
    );
    let gone = apply(&fixture, retire_anchor(&fixture, &b))
        .await
        .unwrap_err();
    assert!(matches!(gone, LedgerError::UnknownAnchor { .. }), "{gone}");
    // It may come again, and its history stays.
    apply(&fixture, foreign(&fixture, &b, None)).await.unwrap();
    let anchors = authority(&fixture).await.anchors;
    let of_b: Vec<_> = anchors.iter().filter(|anchor| anchor.der == b).collect();
    assert_eq!(
        (of_b[0].state, of_b[1].state),
        (AnchorState::Retired, AnchorState::Active)
    );
    assert_eq!(of_b[0].retired_at, Some(NOW.plus(DAY)));
    let expired = foreign(&fixture, &Key::new().root("c"), Some(NOW.plus(DAY)));
    assert!(matches!(
        apply(&fixture, expired).await,
        Err(LedgerError::Refused(_))
    ));
    let garbage = foreign(&fixture, b"no certificate", None);
    assert!(matches!(
        apply(&fixture, garbage).await,
        Err(LedgerError::Refused(_))
    ));
}

pub async fn anchors_are_published_before_they_are_used(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let stranger = Key::new().root("stranger");
    apply(&fixture, foreign(&fixture, &stranger, None))
        .await
        .unwrap();
    let (root, issuing) = (Key::new(), Key::new());
    let root_der = root.root("next root");
    let issuing_der = root.certify("next root", &issuing, "next issuing");
    apply(
        &fixture,
        add_issuer(&fixture.domain, &issuing, Role::Issuing),
    )
    .await
    .unwrap();
    let Change::AddCaCertificate {
        issuer,
        der,
        path,
        anchor,
        origin,
        source,
        ..
    } = add_certificate(&issuing, &issuing_der, &root_der)
    else {
        unreachable!()
    };
    let (activate, retire) = (false, false);
    let prepare = Change::AddCaCertificate {
        issuer,
        der,
        path,
        anchor,
        origin,
        source,
        activate,
        retire,
    };
    apply(&fixture, prepare).await.unwrap();
    let record = authority(&fixture).await;
    let next = record.issuers.last().unwrap();
    assert_eq!(
        (next.state, next.certificates[0].state),
        (IssuerState::Pending, IssuerState::Pending)
    );
    assert_eq!(record.anchors.last().unwrap().state, AnchorState::Pending);
    let anchors = [fixture.root_der.clone(), root_der.clone(), stranger.clone()];
    assert_eq!(
        published(&*fixture.ledger, &fixture).await,
        (3, anchors.to_vec())
    );

    apply(&fixture, set(&issuing, IssuerState::Active))
        .await
        .unwrap();
    let record = authority(&fixture).await;
    let next = record.issuers.last().unwrap();
    assert_eq!(
        (next.state, next.certificates[0].state),
        (IssuerState::Active, IssuerState::Active)
    );
    assert_eq!(record.anchors.last().unwrap().state, AnchorState::Active);
    // The same anchors in the same order are the same bundle.
    assert_eq!(
        published(&*fixture.ledger, &fixture).await,
        (3, anchors.to_vec())
    );
}

pub async fn a_bundle_is_never_empty(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let retire = retire_anchor(&fixture, &fixture.root_der);
    let error = apply(&fixture, retire.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("retire the issuer first"),
        "{error}"
    );
    for key in [&fixture.issuing, &fixture.root] {
        apply(&fixture, set(key, IssuerState::Retired))
            .await
            .unwrap();
    }
    let error = apply(&fixture, retire.clone()).await.unwrap_err();
    assert!(error.to_string().contains("must not be empty"), "{error}");
    let other = Key::new().root("other");
    apply(&fixture, foreign(&fixture, &other, Some(NOW.plus(DAY))))
        .await
        .unwrap();
    apply(&fixture, retire).await.unwrap();
    assert_eq!(
        published(&*fixture.ledger, &fixture).await.1,
        std::slice::from_ref(&other)
    );
    // The last one expires: the last bundle stays.
    apply(
        &fixture,
        Change::RefreshBundles {
            now: NOW.plus(2 * DAY),
        },
    )
    .await
    .unwrap();
    assert_eq!(published(&*fixture.ledger, &fixture).await.1, [other]);

    // An authority without anchors has no bundle at all.
    let bare = domain("bare.example");
    apply(
        &fixture,
        Change::CreateAuthority {
            trust_domain: bare.clone(),
        },
    )
    .await
    .unwrap();
    assert_eq!(fixture.ledger.bundle(&bare, None).await.unwrap(), None);
    let nobody = domain("nobody.example");
    let error = fixture.ledger.bundle(&nobody, None).await.unwrap_err();
    assert_eq!(error, LedgerError::UnknownAuthority(nobody));
}

pub async fn bundle_versions_stay(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let mut expected = vec![vec![fixture.root_der.clone()]];
    for n in 0..5 {
        let der = Key::new().root(&format!("foreign {n}"));
        apply(&fixture, foreign(&fixture, &der, None))
            .await
            .unwrap();
        expected.push([expected.last().unwrap().clone(), vec![der]].concat());
    }
    let other = store.other().await;
    for (sequence, anchors) in (1..).zip(&expected) {
        let bundle = other
            .bundle(&fixture.domain, Some(sequence))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((bundle.sequence, &bundle.anchors), (sequence, anchors));
        assert_eq!(bundle.created_at, NOW);
    }
    assert_eq!(other.bundle(&fixture.domain, Some(7)).await.unwrap(), None);
    assert_eq!(published(&*other, &fixture).await.0, 6);
}

/// One issuing key under two roots, and a foreign anchor: either root may go, never both, however
/// the other one's certificate is taken away.
pub async fn an_active_issuer_keeps_a_usable_certificate(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let second = Key::new();
    let second_der = second.root("second");
    let under_second = second.certify("second", &fixture.issuing, "mesh.example issuing");
    let added = apply(
        &fixture,
        add_certificate(&fixture.issuing, &under_second, &second_der),
    );
    let certificate = added.await.unwrap().certificate.unwrap();
    let foreign_der = Key::new().root("foreign");
    apply(&fixture, foreign(&fixture, &foreign_der, None))
        .await
        .unwrap();

    // The root's own issuer is retired first: it signs under its own anchor only.
    apply(&fixture, set(&fixture.root, IssuerState::Retired))
        .await
        .unwrap();
    apply(&fixture, retire_anchor(&fixture, &fixture.root_der))
        .await
        .unwrap();
    let refused = |outcome: Result<_, LedgerError>| {
        let error = outcome.unwrap_err();
        assert!(
            error.to_string().contains("retire the issuer first"),
            "{error}"
        );
    };
    // The first certificate is still active, but its anchor is not.
    refused(apply(&fixture, retire_anchor(&fixture, &second_der)).await);
    refused(apply(&fixture, Change::RetireCaCertificate { certificate }).await);
    let anchors = published(&*fixture.ledger, &fixture).await.1;
    assert_eq!(
        anchors,
        [second_der.clone(), foreign_der.clone()],
        "nothing has changed"
    );

    // Without the issuer, the anchor may go.
    apply(&fixture, set(&fixture.issuing, IssuerState::Retired))
        .await
        .unwrap();
    apply(&fixture, retire_anchor(&fixture, &second_der))
        .await
        .unwrap();
    assert_eq!(published(&*fixture.ledger, &fixture).await.1, [foreign_der]);
}

/// A prepared issuer whose anchor was retired meanwhile has nothing to sign under.
pub async fn an_issuer_whose_anchor_is_gone_is_not_activated(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let (root, issuing) = (Key::new(), Key::new());
    let root_der = root.root("next root");
    let issuing_der = root.certify("next root", &issuing, "next issuing");
    apply(
        &fixture,
        add_issuer(&fixture.domain, &issuing, Role::Issuing),
    )
    .await
    .unwrap();
    let mut prepare = add_certificate(&issuing, &issuing_der, &root_der);
    if let Change::AddCaCertificate { activate, .. } = &mut prepare {
        *activate = false;
    }
    apply(&fixture, prepare).await.unwrap();
    apply(&fixture, retire_anchor(&fixture, &root_der))
        .await
        .unwrap();
    let error = apply(&fixture, set(&issuing, IssuerState::Active))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("whose anchor is published"),
        "{error}"
    );
    let issuers = authority(&fixture).await.issuers;
    assert_eq!(issuers.last().unwrap().state, IssuerState::Pending);
}
