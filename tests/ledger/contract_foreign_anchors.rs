//! Anchors that are another CA's: what every ledger promises.

use rootbridge::ledger::{AnchorOrigin, AnchorState, Change, LedgerError, Role};

use crate::contract_records::{apply, authority, foreign, published, retire_anchor};
use crate::support::{DAY, Fixture, Key, NOW, Store, add_certificate, add_issuer};

/// The root of another CA that becomes this authority's own: one anchor, which no longer leaves the
/// bundle when the foreign one was to.
pub async fn a_foreign_anchor_becomes_the_authoritys_own(store: &dyn Store) {
    for activate in [true, false] {
        let fixture =
            Fixture::build_for(store.server().await, &format!("{activate}.example")).await;
        let (root, issuing) = (Key::new(), Key::new());
        let root_der = root.root("enterprise");
        apply(&fixture, foreign(&fixture, &root_der, Some(NOW.plus(DAY))))
            .await
            .unwrap();
        apply(
            &fixture,
            add_issuer(&fixture.domain, &issuing, Role::Issuing),
        )
        .await
        .unwrap();
        let issuing_der = root.certify("enterprise", &issuing, "mesh.example issuing");
        let mut add = add_certificate(&issuing, &issuing_der, &root_der);
        if let Change::AddCaCertificate {
            activate: at_once,
            origin,
            ..
        } = &mut add
        {
            (*at_once, *origin) = (activate, AnchorOrigin::Upstream);
        }
        apply(&fixture, add).await.unwrap();
        let all = authority(&fixture).await.anchors;
        let of_root: Vec<_> = all
            .iter()
            .filter(|anchor| anchor.der == root_der)
            .map(|anchor| (anchor.origin, anchor.state, anchor.expires_at))
            .collect();
        let state = match activate {
            true => AnchorState::Active,
            false => AnchorState::Pending,
        };
        assert_eq!(
            of_root,
            [
                (
                    AnchorOrigin::Foreign,
                    AnchorState::Retired,
                    Some(NOW.plus(DAY))
                ),
                (AnchorOrigin::Upstream, state, None)
            ]
        );
        let both = [fixture.root_der.clone(), root_der.clone()];
        let later = Change::RefreshBundles {
            now: NOW.plus(2 * DAY),
        };
        let applied = apply(&fixture, later).await.unwrap();
        assert!(applied.bundles.is_empty(), "{applied:?}");
        assert_eq!(published(&*fixture.ledger, &fixture).await.1, both);

        // Another certificate under it finds the anchor there.
        let renewed = root.certify("enterprise", &issuing, "mesh.example issuing");
        apply(&fixture, add_certificate(&issuing, &renewed, &root_der))
            .await
            .unwrap();
        assert_eq!(authority(&fixture).await.anchors.len(), all.len());
        fixture.ledger.close().await;
    }
}

/// Some verifiers take any certificate of a bundle for an issuer.
pub async fn a_leaf_is_no_anchor(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let before = fixture.ledger.snapshot().await.unwrap();
    let leaf = fixture.leaf("bar");
    let signature = fixture.issuing.sign(&leaf.tbs);
    let der = rootbridge::x509::assemble(&leaf.tbs, leaf.algorithm, &signature).unwrap();
    let error = apply(&fixture, foreign(&fixture, &der, None)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is no CA certificate"), "{error}");
    assert_eq!(fixture.ledger.snapshot().await.unwrap(), before);
}

pub async fn several_changes_are_made_together_or_not_at_all(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let (a, b) = (Key::new().root("a"), Key::new().root("b"));
    let revision = fixture.ledger.revision().await.unwrap();
    // The second one cannot be made: `b` was never published.
    let changes = vec![foreign(&fixture, &a, None), retire_anchor(&fixture, &b)];
    let error = apply(&fixture, Change::All(changes)).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::UnknownAnchor { .. }),
        "{error}"
    );
    assert_eq!(fixture.ledger.revision().await.unwrap(), revision);
    let before = published(&*fixture.ledger, &fixture).await.1;
    assert_eq!(before, std::slice::from_ref(&fixture.root_der));

    let changes = vec![foreign(&fixture, &a, None), foreign(&fixture, &b, None)];
    let applied = apply(&fixture, Change::All(changes)).await.unwrap();
    assert_eq!(applied.added_anchors.len(), 2);
    let after = published(&*fixture.ledger, &fixture).await.1;
    assert_eq!(after, [fixture.root_der.clone(), a, b]);
}
