//! Instances that come and go: what every ledger promises.

use std::sync::Arc;

use rootbridge::ledger::{Change, Epoch, Filter, Intent, LedgerError, Outcome, State};

use crate::support::{DAY, Fixture, LEASE, NOW, Store, issued, new, operator};

pub async fn callers_who_leave_harm_nobody(store: &dyn Store) {
    let fixture = Arc::new(Fixture::build(store.server().await).await);
    let mut tasks = Vec::new();
    for n in 0..200 {
        let fixture = Arc::clone(&fixture);
        tasks.push(tokio::spawn(async move {
            if n % 3 == 0 {
                let change = Change::RefreshBundles { now: NOW };
                fixture.ledger.apply(change, &operator()).await.map(drop)
            } else {
                fixture.ledger.record(fixture.intent("bar")).await.map(drop)
            }
        }));
    }
    for (n, task) in tasks.iter().enumerate() {
        if n % 2 == 0 {
            task.abort();
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        if let Ok(done) = task.await {
            done.unwrap();
        }
    }
    new(fixture.ledger.record(fixture.intent("bar")).await.unwrap());
}

pub async fn epochs_and_leases(store: &dyn Store) {
    let ledger = store.server().await;
    let first = ledger.register("a", LEASE, NOW).await.unwrap();
    assert_eq!(
        first,
        Epoch {
            instance: "a".into(),
            boot: 1
        }
    );
    ledger.renew(&first, NOW).await.unwrap();
    let second = store.other().await.register("a", LEASE, NOW).await.unwrap();
    assert_eq!(second.boot, 2);
    ledger.renew(&second, NOW).await.unwrap();
    // The first has been succeeded: it may neither renew nor reconcile.
    let succeeded = LedgerError::UnknownEpoch {
        instance: "a".into(),
        boot: 1,
    };
    assert_eq!(ledger.renew(&first, NOW).await.unwrap_err(), succeeded);
    assert_eq!(ledger.reconcile(&first, NOW).await.unwrap_err(), succeeded);
    assert_eq!(ledger.register("b", LEASE, NOW).await.unwrap().boot, 1);
}

pub async fn reconciles_only_what_is_abandoned(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let by_epoch = |epoch: &Epoch| Intent {
        epoch: epoch.clone(),
        ..fixture.intent("bar")
    };
    let record = async |epoch: &Epoch| new(ledger.record(by_epoch(epoch)).await.unwrap());

    let mine_before = fixture.epoch.clone();
    let theirs_before = ledger.register("server-1", LEASE, NOW).await.unwrap();
    let (a, b) = (record(&mine_before).await, record(&theirs_before).await);
    let concluded = record(&mine_before).await;
    ledger.conclude(concluded, issued(b"s")).await.unwrap();
    let mine = ledger.register("server-0", LEASE, NOW).await.unwrap();
    let theirs = ledger.register("server-1", LEASE, NOW).await.unwrap();
    let (c, d) = (record(&mine).await, record(&theirs).await);

    let states = async || {
        let rows = ledger.certificates(Filter::default()).await.unwrap();
        [a, b, c, d].map(|id| rows.iter().find(|row| row.id == id).unwrap().state)
    };
    use State::{Pending, Unknown};
    assert_eq!(ledger.reconcile(&mine, NOW).await.unwrap(), 1);
    assert_eq!(states().await, [Unknown, Pending, Pending, Pending]);
    assert_eq!(ledger.reconcile(&mine, NOW).await.unwrap(), 0);

    // A lease that was renewed has not run out.
    let later = NOW.plus(LEASE);
    ledger.renew(&theirs, later).await.unwrap();
    assert_eq!(ledger.reconcile(&mine, later).await.unwrap(), 0);
    let much_later = later.plus(LEASE);
    assert_eq!(ledger.reconcile(&mine, much_later).await.unwrap(), 2);
    assert_eq!(states().await, [Unknown, Unknown, Pending, Unknown]);

    // Too late to say so.
    for id in [a, d] {
        let error = ledger.conclude(id, issued(b"s")).await.unwrap_err();
        assert_eq!(
            error,
            LedgerError::AlreadyConcluded {
                intent: id,
                state: Unknown
            }
        );
    }
    ledger.conclude(c, issued(b"s")).await.unwrap();
    let unknown = Filter {
        state: Some(Unknown),
        ..Filter::default()
    };
    for row in ledger.certificates(unknown).await.unwrap() {
        assert!(row.reason.unwrap().contains("server-0"));
    }
}

pub async fn reconciling_reads_past_concluded_intents(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let mut epoch = fixture.epoch.clone();
    for round in 0..5 {
        let mut open = 0;
        for n in 0..40 {
            let asked = Intent {
                epoch: epoch.clone(),
                ..fixture.intent("bar")
            };
            let id = new(ledger.record(asked).await.unwrap());
            if n % (round + 2) == 0 {
                open += 1;
            } else {
                ledger.conclude(id, issued(b"s")).await.unwrap();
            }
        }
        assert_eq!(ledger.reconcile(&epoch, NOW).await.unwrap(), 0);
        let pending = Filter {
            state: Some(State::Pending),
            ..Filter::default()
        };
        assert_eq!(
            ledger.certificates(pending).await.unwrap().len() as u64,
            open
        );
        epoch = ledger.register("server-0", LEASE, NOW).await.unwrap();
        assert_eq!(ledger.reconcile(&epoch, NOW).await.unwrap(), open);
    }
    assert_eq!(ledger.check().await.unwrap().conclusions, 200);
    // Leases count from the moment that is given, not from the store's clock.
    store.clock().set(NOW.plus(DAY));
    assert_eq!(ledger.reconcile(&epoch, NOW).await.unwrap(), 0);
}

pub async fn closes(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let id = new(fixture.ledger.record(fixture.intent("bar")).await.unwrap());
    let waiting = (0..50).map(|_| fixture.ledger.record(fixture.intent("bar")));
    let (waiting, ()) = tokio::join!(
        futures_util::future::join_all(waiting),
        fixture.ledger.close()
    );
    let recorded = waiting.iter().filter(|done| done.is_ok()).count() as u64;
    for late in [
        fixture.ledger.record(fixture.intent("bar")).await.map(drop),
        fixture
            .ledger
            .conclude(id, Outcome::Issued { signature: vec![1] })
            .await,
        fixture.ledger.snapshot().await.map(drop),
    ] {
        assert!(matches!(late, Err(LedgerError::Unavailable { .. })));
    }
    let again = store.server().await;
    assert_eq!(again.check().await.unwrap().intents, recorded + 1);
}
