//! A change of the records by one server is heard of by another, or found by its poll.

use rootbridge::ledger::{Change, Ledger, PasswordSource, Wakeup};
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::pgbouncer::PgBouncer;
use rootbridge_test_support::postgres::PASSWORD;
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres::{PostgresStore, open};
use crate::support::{block_on, domain, operator};

/// What a connection that listens asks, now and then, beside LISTEN itself.
const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND (query LIKE 'LISTEN %' OR query = 'SELECT pg_listening_channels()')";

async fn change(ledger: &dyn Ledger, name: &str) {
    let trust_domain = domain(name);
    let change = Change::CreateAuthority { trust_domain };
    ledger.apply(change, &operator()).await.unwrap();
}

async fn told(ledger: &dyn Ledger, what: &str) {
    eventually(PATIENCE, what, async || {
        ledger.wait_for_change().await == Wakeup::Told
    })
    .await;
}

/// Waits until nothing more is said.
async fn quiet(ledger: &dyn Ledger) {
    eventually(PATIENCE, "nothing more is said", async || {
        ledger.wait_for_change().await == Wakeup::Due
    })
    .await;
}

#[test]
fn another_server_is_told() {
    let store = PostgresStore::new();
    block_on(async {
        let one = store.open().await.unwrap();
        let two = store.open().await.unwrap();
        // Once that it listens, since something may have changed before.
        told(&two, "it listens").await;
        quiet(&two).await;
        change(&one, "first.example").await;
        told(&two, "it is told").await;
        quiet(&two).await;

        // Its connection is lost: it makes another, and looks.
        store.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM ({}) AS listeners",
            LISTENERS.replace("count(*)", "pid")
        ));
        told(&two, "it listens again").await;
        quiet(&two).await;
        change(&one, "second.example").await;
        told(&two, "it is told again").await;

        // Where nothing is said any more, a poll is due all the same.
        store.psql("DROP TRIGGER revision_notify ON revision");
        quiet(&two).await;
        change(&one, "third.example").await;
        assert_eq!(two.wait_for_change().await, Wakeup::Due);
        assert_eq!(two.revision().await.unwrap(), one.revision().await.unwrap());
        two.close().await;
        eventually(PATIENCE, "nobody listens", async || {
            store.psql(LISTENERS) == "0"
        })
        .await;
    });
}

/// Through a pooler, what one client listens to would stay with a connection that others use.
#[test]
fn nobody_listens_through_a_pooler() {
    let store = PostgresStore::new();
    let pooler = PgBouncer::start(store.server, "transaction", "");
    let directory = tempfile::tempdir().unwrap();
    write_secret(&directory.path().join("password"), PASSWORD);
    let password = || Some(PasswordSource::File(directory.path().join("password")));
    block_on(async {
        let direct = store.server.tls_url(&store.database);
        let one = open(&direct, password(), &store.clock).await.unwrap();
        told(&one, "over TLS it listens").await;
        let url = pooler.url(&store.database);
        let two = open(&url, password(), &store.clock).await.unwrap();
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND query = 'SELECT pg_backend_pid()'";
        eventually(PATIENCE, "it has asked who answers", async || {
            two.wait_for_change().await == Wakeup::Due && store.psql(asked) == "1"
        })
        .await;
        change(&one, "first.example").await;
        assert_eq!(two.wait_for_change().await, Wakeup::Due);
        assert_eq!(store.psql(LISTENERS), "1");
    });
}
