//! Work that one of several servers does: what every ledger promises.

use rootbridge::clock::UnixTime;
use rootbridge::ledger::{
    Actor, BundleRollout, Change, Claim, ClaimFrom, Epoch, Filter, Intent, Ledger, LedgerError,
    WorkLease,
};
use std::time::Duration;

use crate::support::{Fixture, LEASE, NOW, Store, domain, operator};

const WORK: &str = "upstream/mesh.example";

async fn claim(ledger: &dyn Ledger, epoch: &Epoch, now: UnixTime) -> Claim {
    let from = ClaimFrom::TheDead;
    ledger.claim(WORK, from, epoch, now).await.unwrap()
}

fn held(fence: u64) -> Claim {
    Claim::Held(lease(fence))
}

fn lease(fence: u64) -> WorkLease {
    WorkLease {
        work: WORK.into(),
        fence,
    }
}

pub async fn one_server_does_the_work(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    // As a server of another machine, which SQLite's lock on the file does not know of.
    let ledger = store.other().await;
    let ledger = ledger.as_ref();
    let a = ledger.register("a", LEASE, NOW).await.unwrap();
    let b = ledger.register("b", LEASE, NOW).await.unwrap();
    assert_eq!(claim(ledger, &a, NOW).await, held(1));
    assert_eq!(claim(ledger, &a, NOW).await, held(1));
    assert_eq!(claim(ledger, &b, NOW).await, Claim::HeldBy("a".into()));

    // `a` is stopped, and does not renew its lease.
    let later = NOW.plus(LEASE);
    ledger
        .renew(&b, later.minus(Duration::from_secs(1)))
        .await
        .unwrap();
    assert_eq!(
        claim(ledger, &b, later.minus(Duration::from_secs(1))).await,
        Claim::HeldBy("a".into())
    );
    assert_eq!(claim(ledger, &b, later).await, held(2));
    // When it goes on, it claims nothing before it has renewed it.
    let from = ClaimFrom::TheDead;
    let error = ledger.claim(WORK, from, &a, later).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the lease of instance a has run out"),
        "{error}"
    );
    ledger.renew(&a, later).await.unwrap();
    assert_eq!(claim(ledger, &a, later).await, Claim::HeldBy("b".into()));

    // What it still does with its old lease is refused, whatever it is, and changes nothing.
    let lost = LedgerError::LeaseLost {
        work: WORK.into(),
        holder: "b".into(),
    };
    let revision = ledger.revision().await.unwrap();
    let change = |fence| {
        let by = Actor::server(Some(lease(fence)));
        let trust_domain = domain(&format!("by-{fence}.example"));
        async move {
            ledger
                .apply(Change::CreateAuthority { trust_domain }, &by)
                .await
        }
    };
    let intent = |fence| Intent {
        lease: Some(lease(fence)),
        epoch: a.clone(),
        ..fixture.leaf("own")
    };
    let bundle = ledger.bundle(&fixture.domain, None).await.unwrap().unwrap();
    let rollout = || BundleRollout {
        cluster: "west".into(),
        target: "istio".into(),
        trust_domain: fixture.domain.clone(),
        sequence: bundle.sequence,
        digest: bundle.digest,
        objects: 1,
        at: NOW,
        by: "a".into(),
    };
    assert_eq!(change(1).await.unwrap_err(), lost);
    assert_eq!(ledger.record(intent(1)).await.unwrap_err(), lost);
    let recorded = ledger.record_rollout(rollout(), Some(&lease(1))).await;
    assert_eq!(recorded.unwrap_err(), lost);
    assert_eq!(ledger.require(&lease(1)).await.unwrap_err(), lost);
    assert_eq!(ledger.revision().await.unwrap(), revision);
    assert_eq!(ledger.certificates(Filter::default()).await.unwrap(), []);
    assert_eq!(ledger.rollouts().await.unwrap(), []);
    // One that is lost does not keep others in the same batch from being recorded.
    let (refused, recorded) = tokio::join!(ledger.record(intent(1)), ledger.record(intent(2)));
    assert_eq!(refused.unwrap_err(), lost);
    recorded.unwrap();
    change(2).await.unwrap();
    ledger
        .record_rollout(rollout(), Some(&lease(2)))
        .await
        .unwrap();

    // An epoch that ends takes its leases with it: what it had begun is not concluded by the next one.
    let next = ledger.register("b", LEASE, later).await.unwrap();
    assert_eq!(claim(ledger, &next, later).await, held(3));
    assert!(matches!(
        change(2).await.unwrap_err(),
        LedgerError::LeaseLost { .. }
    ));
    let error = ledger.claim(WORK, from, &b, later).await.unwrap_err();
    assert!(matches!(error, LedgerError::UnknownEpoch { .. }), "{error}");

    // Given up, it is free at once; who has lost it gives up nothing.
    ledger.give_up(&lease(2)).await.unwrap();
    assert_eq!(claim(ledger, &a, later).await, Claim::HeldBy("b".into()));
    ledger.give_up(&lease(3)).await.unwrap();
    let error = ledger.require(&lease(3)).await.unwrap_err();
    assert!(error.to_string().contains("nobody holds it"), "{error}");
    assert_eq!(claim(ledger, &a, later).await, held(4));
    // Who was elected by other means takes it from any holder.
    let seized = ledger
        .claim(WORK, ClaimFrom::Anyone, &next, later)
        .await
        .unwrap();
    assert_eq!(seized, held(5));
    let all = ledger.work_leases().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].lease.clone(), all[0].holder.as_deref(), all[0].since),
        (lease(5), Some("b"), later)
    );
    // An operator needs none.
    let trust_domain = domain("by-hand.example");
    ledger
        .apply(Change::CreateAuthority { trust_domain }, &operator())
        .await
        .unwrap();
}

/// Both see what a third has left open, and one concludes it; so with the lease that the third had.
pub async fn two_servers_reconcile_at_once(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let later = NOW.plus(LEASE);
    let (one, two) = (store.other().await, store.other().await);
    let a = one.register("a", LEASE, later).await.unwrap();
    let b = two.register("b", LEASE, later).await.unwrap();
    let open = 20;
    for n in 0..open {
        fixture
            .ledger
            .record(fixture.leaf(&format!("account-{n}")))
            .await
            .unwrap();
    }
    let (left, right) = tokio::join!(one.reconcile(&a, later), two.reconcile(&b, later));
    assert_eq!(left.unwrap() + right.unwrap(), open);
    let from = ClaimFrom::TheDead;
    let (left, right) = tokio::join!(
        one.claim(WORK, from, &a, later),
        two.claim(WORK, from, &b, later)
    );
    let claims = [left.unwrap(), right.unwrap()];
    assert_eq!(
        claims.iter().filter(|claim| **claim == held(1)).count(),
        1,
        "{claims:?}"
    );
}
