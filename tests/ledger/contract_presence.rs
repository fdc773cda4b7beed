//! What servers and watchers have reported, and clusters that are gone: what every ledger promises.

use std::time::Duration;

use rootbridge::ledger::{
    COMMAND, Change, GoneCluster, LedgerError, PresenceChange, ServerReport, WatcherReport,
};
use rootbridge::x509::TrustDomain;

use crate::contract_records::apply;
use crate::support::{DAY, Fixture, NOW, Store};

const LEASE: Duration = Duration::from_secs(30);

fn report(fixture: &Fixture, instance: &str, sequence: u64) -> ServerReport {
    ServerReport {
        instance: instance.into(),
        trust_domain: fixture.domain.clone(),
        sequence,
        digest: [3; 32],
        issuer: None,
        details: "{}".into(),
        at: NOW,
    }
}

fn watcher(fixture: &Fixture, cluster: &str, name: &str, sequence: u64) -> WatcherReport {
    WatcherReport {
        trust_domain: fixture.domain.clone(),
        cluster: cluster.into(),
        name: name.into(),
        sequence,
        digest: [3; 32],
        details: "{}".into(),
        at: NOW,
        instance: "rootbridge-0".into(),
    }
}

pub async fn live_servers_report(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let early = ledger.report_server(report(&fixture, "never", 1)).await;
    assert!(
        matches!(early, Err(LedgerError::UnknownEpoch { .. })),
        "{early:?}"
    );
    ledger.register("a", LEASE, NOW).await.unwrap();
    ledger.register("b", LEASE * 2, NOW).await.unwrap();
    let command = format!("a{COMMAND}7");
    ledger.register(&command, LEASE, NOW).await.unwrap();
    let mut first = report(&fixture, "a", 1);
    first.issuer = Some("k".into());
    ledger.report_server(first.clone()).await.unwrap();
    let live = async |now| {
        let live = store.other().await.live_servers(now).await.unwrap();
        let of = live.into_iter().filter(|each| each.instance.len() == 1);
        of.map(|each| (each.instance, each.until, each.reports))
            .collect::<Vec<_>>()
    };
    let ends = |lease| NOW.plus(lease);
    assert_eq!(
        live(NOW).await,
        [
            ("a".to_owned(), ends(LEASE), vec![first.clone()]),
            ("b".to_owned(), ends(LEASE * 2), vec![])
        ]
    );
    let all = ledger.live_servers(NOW).await.unwrap();
    assert!(all.iter().all(|each| each.instance != command), "{all:?}");
    // The newest replaces the one before; a lease that has ended ends the wait.
    ledger
        .report_server(report(&fixture, "a", 2))
        .await
        .unwrap();
    ledger
        .report_server(report(&fixture, "b", 1))
        .await
        .unwrap();
    assert_eq!(live(NOW).await[0].2, [report(&fixture, "a", 2)]);
    assert_eq!(
        live(ends(LEASE)).await,
        [(
            "b".to_owned(),
            ends(LEASE * 2),
            vec![report(&fixture, "b", 1)]
        )]
    );
    // What a process said before it died does not count for the next.
    ledger.register("b", LEASE * 2, NOW).await.unwrap();
    assert_eq!(live(ends(LEASE)).await[0].2, []);
    let elsewhere = ServerReport {
        trust_domain: TrustDomain::parse("elsewhere").unwrap(),
        ..report(&fixture, "b", 1)
    };
    let unknown = ledger.report_server(elsewhere).await.unwrap_err();
    assert!(
        matches!(unknown, LedgerError::UnknownAuthority(_)),
        "{unknown}"
    );
}

pub async fn watchers_are_remembered(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    let all = [
        watcher(&fixture, "", "billing", 1),
        watcher(&fixture, "west", "agent-1", 1),
        watcher(&fixture, "west", "agent-2", 1),
    ];
    ledger.report_watchers(all.to_vec()).await.unwrap();
    assert_eq!(store.other().await.watchers().await.unwrap(), all);
    // One that goes back says so.
    ledger
        .report_watchers(vec![watcher(&fixture, "west", "agent-1", 3)])
        .await
        .unwrap();
    let older = WatcherReport {
        at: NOW.plus(DAY),
        ..watcher(&fixture, "west", "agent-1", 2)
    };
    ledger.report_watchers(vec![older.clone()]).await.unwrap();
    assert_eq!(ledger.watchers().await.unwrap()[1], older);
    let forget = |name: &str| {
        Change::Presence(PresenceChange::ForgetWatcher {
            trust_domain: fixture.domain.clone(),
            cluster: String::new(),
            name: name.to_owned(),
            reason: "it was replaced".to_owned(),
        })
    };
    apply(&fixture, forget("billing")).await.unwrap();
    let again = apply(&fixture, forget("billing")).await.unwrap_err();
    assert!(matches!(again, LedgerError::Refused(_)), "{again}");
    assert_eq!(ledger.watchers().await.unwrap().len(), 2);
}

pub async fn a_cluster_is_gone_and_comes_back(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let ledger = &*fixture.ledger;
    ledger
        .report_watchers(vec![
            watcher(&fixture, "west", "agent", 1),
            watcher(&fixture, "east", "agent", 1),
        ])
        .await
        .unwrap();
    let gone = |reason: &str| {
        Change::Presence(PresenceChange::Gone {
            cluster: "west".to_owned(),
            reason: reason.to_owned(),
        })
    };
    let returned = || {
        Change::Presence(PresenceChange::Returned {
            cluster: "west".to_owned(),
            how: "its API server answers".to_owned(),
        })
    };
    let before = ledger.revision().await.unwrap();
    // Nobody said that it was gone.
    apply(&fixture, returned()).await.unwrap();
    assert_eq!(ledger.revision().await.unwrap(), before);
    apply(&fixture, gone("CHG-1")).await.unwrap();
    let expected = GoneCluster {
        cluster: "west".into(),
        reason: "CHG-1".into(),
        at: NOW,
        by: crate::support::operator().name,
        returned_at: None,
    };
    let other = store.other().await;
    assert_eq!(other.gone_clusters().await.unwrap(), vec![expected.clone()]);
    let left = other.watchers().await.unwrap();
    assert_eq!(left, [watcher(&fixture, "east", "agent", 1)]);
    apply(&fixture, returned()).await.unwrap();
    let back = GoneCluster {
        returned_at: Some(NOW),
        ..expected.clone()
    };
    assert_eq!(ledger.gone_clusters().await.unwrap(), [back]);
    apply(&fixture, gone("CHG-2")).await.unwrap();
    let again = GoneCluster {
        reason: "CHG-2".into(),
        ..expected
    };
    assert_eq!(ledger.gone_clusters().await.unwrap(), [again]);
    assert!(ledger.revision().await.unwrap() >= before + 3);
}
