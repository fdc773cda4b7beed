//! How far a ledger has come: what every ledger says of itself, and of an earlier mark.

use rootbridge::ledger::{Change, HighWater};

use crate::support::{Fixture, Store, issued, new, operator};

pub async fn knows_how_far_it_has_come(store: &dyn Store) {
    let ledger = store.server().await;
    let nothing = ledger.high_water().await.unwrap();
    assert_eq!((nothing.revision, nothing.intent), (0, 0));
    let fixture = Fixture::build(ledger).await;
    let ledger = &fixture.ledger;
    let id = new(ledger.record(fixture.leaf("bar")).await.unwrap());
    let open = ledger.high_water().await.unwrap();
    ledger.conclude(id, issued(b"s")).await.unwrap();
    let reached = ledger.high_water().await.unwrap();
    assert_eq!(
        (open.intent, open.concluded + 1),
        (reached.intent, reached.concluded)
    );
    assert_eq!(reached.bundles[fixture.domain.as_str()], 1);
    for mark in [&nothing, &open, &reached] {
        assert_eq!(ledger.behind(mark).await.unwrap(), None, "{mark}");
    }
    // Each part alone is ahead, or is something else.
    let ahead: [fn(&mut HighWater); 5] = [
        |mark| mark.intent += 1,
        |mark| mark.concluded += 1,
        |mark| mark.revision += 1,
        |mark| mark.digest = "00".repeat(32),
        |mark| {
            mark.bundles.insert("lost.example".to_owned(), 7);
        },
    ];
    for change in ahead {
        let mut mark = reached.clone();
        change(&mut mark);
        assert!(ledger.behind(&mark).await.unwrap().is_some(), "{mark}");
    }
}

/// Bundles go on above those of the ledger that was lost, of authorities that it does not hold as well.
pub async fn an_accepted_older_ledger_goes_on_above_the_lost_one(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let mut mark = fixture.ledger.high_water().await.unwrap();
    mark.bundles.insert(fixture.domain.to_string(), 41);
    mark.bundles.insert("lost.example".to_owned(), 7);
    let change = Change::AcceptOlderLedger {
        instance: "server-0".to_owned(),
        mark,
        reason: "the disk is gone".to_owned(),
    };
    let before = fixture.ledger.revision().await.unwrap();
    let applied = fixture
        .ledger
        .apply(change.clone(), &operator())
        .await
        .unwrap();
    assert_eq!(
        applied
            .bundles
            .iter()
            .map(|one| one.sequence)
            .collect::<Vec<_>>(),
        [42]
    );
    assert_eq!(applied.revision, before + 1);
    // Accepted twice, it is published once.
    let applied = fixture.ledger.apply(change, &operator()).await.unwrap();
    assert!(applied.bundles.is_empty(), "{applied:?}");
    let other = Fixture::build_for(store.other().await, "lost.example").await;
    let bundle = other
        .ledger
        .bundle(&other.domain, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bundle.sequence, 8);
}
