//! PgBouncer between the servers and the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use rootbridge::ledger::{ClaimFrom, Filter, Intent, Ledger, PasswordSource, Postgres};
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::pgbouncer::PgBouncer;
use rootbridge_test_support::postgres::{PASSWORD, PostgresServer};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres::{PostgresStore, open};
use crate::support::{Fixture, LEASE, NOW, Store, block_on, failed, issued, new, unknown};

/// A database with a pooler in front of it.
struct Pooled {
    store: PostgresStore,
    pooler: PgBouncer,
    directory: tempfile::TempDir,
}

impl Pooled {
    fn new(mode: &str, settings: &str) -> Self {
        let store = PostgresStore::new();
        let pooler = PgBouncer::start(store.server, mode, settings);
        let directory = tempfile::tempdir().unwrap();
        write_secret(&directory.path().join("password"), PASSWORD);
        Self {
            store,
            pooler,
            directory,
        }
    }

    async fn open(&self) -> Result<Postgres, rootbridge::ledger::LedgerError> {
        let password = PasswordSource::File(self.directory.path().join("password"));
        let url = self.pooler.url(&self.store.database);
        open(&url, Some(password), &self.store.clock).await
    }
}

/// Two servers share two connections to the database, which change hands after each transaction. The pooler
/// is killed under load: what was confirmed is on record, once.
#[test]
fn works_in_transaction_mode() {
    let mut pooled = Pooled::new("transaction", "default_pool_size = 2");
    block_on(async {
        let one = Fixture::build(Arc::new(pooled.open().await.unwrap())).await;
        let two = Arc::new(pooled.open().await.unwrap());
        let epoch = two.register("server-1", LEASE, NOW).await.unwrap();
        let leaf = |n: usize| match n % 2 {
            0 => one.leaf(&format!("account-{n}")),
            _ => Intent {
                epoch: epoch.clone(),
                ..one.leaf(&format!("account-{n}"))
            },
        };
        let ledgers: [Arc<dyn Ledger>; 2] = [one.ledger.clone(), two.clone()];
        let made = join_all((0..20).map(|n| ledgers[n % 2].record(leaf(n)))).await;
        let ids: Vec<_> = made.into_iter().map(|made| new(made.unwrap())).collect();
        join_all(
            ids.iter()
                .skip(1)
                .map(|id| two.conclude(*id, issued(b"signature"))),
        )
        .await
        .into_iter()
        .for_each(|concluded| concluded.unwrap());
        two.conclude(ids[0], failed("f")).await.unwrap();
        two.reopen(ids[0], unknown("u")).await.unwrap();
        // Locks and time limits end with each transaction.
        two.claim("work", ClaimFrom::TheDead, &epoch, NOW)
            .await
            .unwrap();
        assert_eq!(two.reconcile(&epoch, NOW).await.unwrap(), 0);
        assert_eq!(two.check().await.unwrap().problems, [""; 0]);
        let connections = pooled.store.psql(&format!(
            "SELECT count(*) <= 2, bool_and(state = 'idle') FROM pg_stat_activity
             WHERE datname = '{}' AND application_name = 'rootbridge'",
            pooled.store.database
        ));
        assert_eq!(connections, "t|t");
        let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(pooled.store.psql(left), "0");

        let done = Arc::new(AtomicBool::new(false));
        let callers = (0..4).map(|n| {
            let (ledger, done) = (Arc::clone(&ledgers[n % 2]), Arc::clone(&done));
            let intents: Vec<Intent> = (0..400)
                .map(|k| leaf(1000 * (n + 1) + 2 * k + n % 2))
                .collect();
            tokio::spawn(async move {
                let mut recorded = Vec::new();
                for intent in intents {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let serial = intent.serial.unwrap();
                    match ledger.record(intent).await {
                        Ok(_) => recorded.push(serial),
                        Err(error) => assert!(error.is_outage(), "{error}"),
                    }
                }
                recorded
            })
        });
        let callers: Vec<_> = callers.collect();
        let count = |store: &PostgresStore| -> u32 {
            store.psql("SELECT count(*) FROM intent").parse().unwrap()
        };
        let reached = count(&pooled.store);
        eventually(PATIENCE, "they record", async || {
            count(&pooled.store) > reached + 4
        })
        .await;
        pooled.pooler.kill();
        pooled.pooler.run();
        let reached = count(&pooled.store);
        eventually(PATIENCE, "they record again", async || {
            count(&pooled.store) > reached + 4
        })
        .await;
        done.store(true, Ordering::Relaxed);
        let mut confirmed = 0;
        for caller in callers {
            for serial in caller.await.unwrap() {
                let filter = Filter {
                    serial: Some(serial),
                    ..Filter::default()
                };
                let rows = two.certificates(filter).await.unwrap();
                assert_eq!(rows.len(), 1, "{serial}");
                confirmed += 1;
            }
        }
        assert!(confirmed >= 4, "{confirmed}");
    });
}

/// What a pooler refuses, or cannot give, with the name of the setting.
#[test]
fn says_which_setting_of_a_pooler_to_change() {
    block_on(async {
        let pooled = Pooled::new("statement", "");
        let error = pooled.open().await.unwrap_err().to_string();
        assert!(error.contains("set pool_mode = transaction"), "{error}");

        // A server needs more than one connection.
        let pooled = Pooled::new("transaction", "max_client_conn = 1");
        let fixture = Fixture::build(pooled.store.server().await).await;
        let ledger = pooled.open().await.unwrap();
        let error = ledger.record(fixture.leaf("bar")).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        let error = error.to_string();
        assert!(error.contains("raise its max_client_conn"), "{error}");

        // Somebody holds the only connection to the database.
        let pooled = Pooled::new(
            "transaction",
            "default_pool_size = 1\nquery_wait_timeout = 1",
        );
        let url = pooled.pooler.url(&pooled.store.database);
        // psql does not take the test's CA.
        let url = format!("{}?sslmode=require", url.split('?').next().unwrap());
        let mut holder = std::process::Command::new(PostgresServer::program("psql"))
            .args(["-X", "-q", "-d", &url])
            .env("PGPASSWORD", PASSWORD)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut input = holder.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"BEGIN;\n").unwrap();
        let held = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                AND state = 'idle in transaction'",
            pooled.store.database
        );
        eventually(PATIENCE, "it is held", async || {
            pooled.store.psql(&held) == "1"
        })
        .await;
        // The message and the end of the connection may be read together, and then the end counts.
        eventually(PATIENCE, "it says so", async || {
            let error = pooled.open().await.unwrap_err().to_string();
            error.contains("raise its default_pool_size")
        })
        .await;
        drop(input);
        holder.wait().unwrap();
        pooled.open().await.unwrap().close().await;
    });
}
