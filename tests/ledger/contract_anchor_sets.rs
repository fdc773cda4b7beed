//! Several anchors in one change: what every ledger promises.

use rootbridge::ledger::{Change, LedgerError};
use rootbridge::x509::{MAX_CERTIFICATES, TrustBundle, read_certificates};

use crate::contract_records::{apply, foreign, published};
use crate::support::{DAY, Fixture, Key, NOW, Store, sha256};

/// Some known, one twice, the authority's own root: one change and one version.
pub async fn anchors_are_added_as_a_set(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let [a, b, c] = ["a", "b", "c"].map(|name| Key::new().root(name));
    apply(&fixture, foreign(&fixture, &a, None)).await.unwrap();
    let set = |ders: &[&Vec<u8>]| Change::AddAnchors {
        trust_domain: fixture.domain.clone(),
        ders: ders.iter().map(|der| der.to_vec()).collect(),
        source: "a file".into(),
        expires_at: None,
    };
    let mixed = set(&[&b, &a, &fixture.root_der, &c, &b]);
    let applied = apply(&fixture, mixed.clone()).await.unwrap();
    assert_eq!(applied.bundles[0].sequence, 3);
    assert_eq!(applied.added_anchors, [sha256(&b), sha256(&c)]);
    let all = [fixture.root_der.clone(), a.clone(), b.clone(), c.clone()];
    assert_eq!(published(&*fixture.ledger, &fixture).await.1, all);
    let again = apply(&fixture, mixed).await.unwrap();
    assert_eq!((again.revision, again.bundles.len()), (applied.revision, 0));

    // One that cannot be added: none is.
    let d = Key::new().root("d");
    let refused = apply(&fixture, set(&[&d, &b"no certificate".to_vec()])).await;
    assert!(
        matches!(refused, Err(LedgerError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(published(&*fixture.ledger, &fixture).await.1, all);

    // One that has left the bundle at its end comes again.
    let until = Change::AddAnchors {
        trust_domain: fixture.domain.clone(),
        ders: vec![d.clone()],
        source: "for a day".into(),
        expires_at: Some(NOW.plus(DAY)),
    };
    apply(&fixture, until).await.unwrap();
    store.clock().set(NOW.plus(2 * DAY));
    let now = NOW.plus(2 * DAY);
    apply(&fixture, Change::RefreshBundles { now })
        .await
        .unwrap();
    let applied = apply(&fixture, set(&[&d])).await.unwrap();
    assert_eq!(applied.added_anchors, [sha256(&d)]);
    assert!(published(&*fixture.ledger, &fixture).await.1.contains(&d));
}

/// What is published can be read by this program's own clients: the same limit on both sides.
pub async fn a_bundle_has_a_limit(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let add = |ders: Vec<Vec<u8>>| Change::AddAnchors {
        trust_domain: fixture.domain.clone(),
        ders,
        source: "many".into(),
        expires_at: None,
    };
    let key = Key::new();
    let mut many: Vec<Vec<u8>> = (0..MAX_CERTIFICATES)
        .map(|number| key.root(&format!("root {number}")))
        .collect();
    let one_too_many = apply(&fixture, add(many.clone())).await.unwrap_err();
    let message = one_too_many.to_string();
    assert!(message.contains("501 trust anchors"), "{message}");
    assert_eq!(published(&*fixture.ledger, &fixture).await.0, 1);
    many.pop();
    apply(&fixture, add(many)).await.unwrap();
    let (_, ders) = published(&*fixture.ledger, &fixture).await;
    let bundle = TrustBundle::new(fixture.domain.clone(), 2, ders).unwrap();
    let read = read_certificates(bundle.to_pem().as_bytes()).unwrap();
    assert_eq!(read.len(), MAX_CERTIFICATES);
}
