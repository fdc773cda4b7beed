//! Bundles that have reached their targets: what every ledger promises.

use rootbridge::ledger::{BundleRollout, LedgerError};

use crate::contract_records::{apply, foreign, published};
use crate::support::{DAY, Fixture, Key, NOW, Store, domain, sha256};

fn rollout(fixture: &Fixture, sequence: u64, digest: [u8; 32]) -> BundleRollout {
    BundleRollout {
        cluster: "east".into(),
        target: "istio".into(),
        trust_domain: fixture.domain.clone(),
        sequence,
        digest,
        objects: 300,
        at: NOW,
        by: "rootbridge-0".into(),
    }
}

async fn digest(fixture: &Fixture, sequence: u64) -> [u8; 32] {
    let bundle = fixture.ledger.bundle(&fixture.domain, Some(sequence)).await;
    bundle.unwrap().unwrap().digest
}

pub async fn the_newest_rollout_of_each_target_is_stored(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let other = Key::new().root("other");
    assert_ne!(sha256(&other), [0; 32]);
    apply(&fixture, foreign(&fixture, &other, None))
        .await
        .unwrap();
    assert_eq!(published(&*fixture.ledger, &fixture).await.0, 2);
    assert_eq!(fixture.ledger.rollouts().await.unwrap(), []);

    let first = rollout(&fixture, 1, digest(&fixture, 1).await);
    assert_eq!(
        fixture
            .ledger
            .record_rollout(first.clone(), None)
            .await
            .unwrap(),
        NOW
    );
    // Said again later, by another: the first moment stays.
    let later = NOW.plus(DAY);
    let again = BundleRollout {
        at: later,
        by: "rootbridge-1".into(),
        ..first.clone()
    };
    assert_eq!(
        fixture.ledger.record_rollout(again, None).await.unwrap(),
        NOW
    );
    let west = BundleRollout {
        cluster: "west".into(),
        ..first.clone()
    };
    fixture
        .ledger
        .record_rollout(west.clone(), None)
        .await
        .unwrap();
    let ledger = store.other().await;
    assert_eq!(ledger.rollouts().await.unwrap(), [first, west.clone()]);

    let second = BundleRollout {
        at: later,
        objects: 301,
        ..rollout(&fixture, 2, digest(&fixture, 2).await)
    };
    assert_eq!(
        fixture
            .ledger
            .record_rollout(second.clone(), None)
            .await
            .unwrap(),
        later
    );
    assert_eq!(ledger.rollouts().await.unwrap(), [second, west]);
    // It does not change the records: no reader has to read them again.
    let revision = ledger.revision().await.unwrap();
    fixture
        .ledger
        .record_rollout(rollout(&fixture, 1, digest(&fixture, 1).await), None)
        .await
        .unwrap();
    assert_eq!(ledger.revision().await.unwrap(), revision);
}

pub async fn what_was_never_published_is_not_delivered(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let digest = digest(&fixture, 1).await;
    for wrong in [rollout(&fixture, 2, digest), rollout(&fixture, 1, [7; 32])] {
        let refused = fixture
            .ledger
            .record_rollout(wrong, None)
            .await
            .unwrap_err();
        assert!(matches!(refused, LedgerError::Refused(_)), "{refused}");
    }
    let nobody = domain("nobody.example");
    let wrong = BundleRollout {
        trust_domain: nobody.clone(),
        ..rollout(&fixture, 1, digest)
    };
    let refused = fixture
        .ledger
        .record_rollout(wrong, None)
        .await
        .unwrap_err();
    assert_eq!(refused, LedgerError::UnknownAuthority(nobody));
    assert_eq!(fixture.ledger.rollouts().await.unwrap(), []);
}
