//! Standbys: which of them confirms a commit, and what becomes of a session whose server takes no writes
//! any more.

use std::sync::Arc;

use rootbridge::clock::FixedClock;
use rootbridge::ledger::{Assurance, Filter, Ledger};
use rootbridge_test_support::postgres::{PostgresServer, USER};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres::open;
use crate::support::{Fixture, NOW, block_on};

#[test]
fn a_standby_confirms_commits_and_takes_over() {
    let primary = PostgresServer::start();
    let database = primary.database();
    let standby = PostgresServer::standby_of(&primary, "second");
    let clock = Arc::new(FixedClock::new(NOW));
    let both = format!(
        "postgres://{USER}@{},{}/{database}",
        standby.socket_host(),
        primary.socket_host()
    );
    let set = |setting: &str| {
        primary.psql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        primary.psql("postgres", "SELECT pg_reload_conf()");
    };
    block_on(async {
        // The standby is first in the URL, and passed by.
        let ledger = Arc::new(open(&both, None, &clock).await.unwrap());
        let fixture = Fixture::build(ledger.clone()).await;
        fixture.issue(fixture.leaf("before")).await;
        let says = async |ledger: &dyn Ledger, assurance: Assurance, part: &str| {
            eventually(PATIENCE, part, async || {
                let report = ledger.check().await.unwrap();
                let (found, detail, _) = report.replication.unwrap().assurance();
                found == assurance && detail.contains(part)
            })
            .await;
        };
        says(&*ledger, Assurance::AtRisk, "a failover to second may lose").await;
        set("synchronous_standby_names = 'second'");
        says(&*ledger, Assurance::Kept, "confirmed by second").await;
        set("synchronous_standby_names = 'absent'");
        says(&*ledger, Assurance::Stopped, "'absent'").await;
        set("synchronous_standby_names = 'second'");
        says(&*ledger, Assurance::Kept, "confirmed by second").await;
        // A role without the right to see it says so instead of guessing.
        primary.psql(
            &database,
            "CREATE ROLE plain LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain",
        );
        let url = primary.socket_url(&database).replace(USER, "plain");
        let plain = open(&url, None, &clock).await.unwrap();
        says(&plain, Assurance::AtRisk, "may not see").await;
        plain.close().await;
        // The standby alone is refused.
        let error = open(&standby.socket_url(&database), None, &clock)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("read-only standby: add the primary"),
            "{error}"
        );

        // The primary takes no writes any more, and ends no connection. Sessions leave it, also once another
        // server is there.
        set("default_transaction_read_only = on");
        eventually(PATIENCE, "it refuses", async || {
            let refused = fixture.ledger.record(fixture.leaf("between")).await;
            refused.is_err_and(|error| error.to_string().contains("read-only standby"))
        })
        .await;
        standby.psql("postgres", "SELECT pg_promote()");
        eventually(PATIENCE, "the other is found", async || {
            fixture.ledger.record(fixture.leaf("after")).await.is_ok()
        })
        .await;
        let there = standby.psql(
            &database,
            "SELECT count(*) FROM intent WHERE subject LIKE '%/after'",
        );
        assert_eq!(there, "1");
        // What was confirmed before is there.
        let rows = fixture
            .ledger
            .certificates(Filter::default())
            .await
            .unwrap();
        assert!(rows.iter().any(|row| row.subject.ends_with("/before")));
    });
}
