//! A ledger moves from one store to the other and back.

use std::sync::{Arc, Mutex};

use rootbridge::clock::{Clock, FixedClock};
use rootbridge::ledger::{
    Change, CopyReport, CopyStep, Filter, Intent, Ledger, LedgerError, LedgerStore, OpenMode,
    PostgresConfig, copy,
};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres::PostgresStore;
use crate::support::{Fixture, LEASE, NOW, block_on, domain, failed, new, operator};

/// When the leases of the tests' servers have ended.
fn later() -> Arc<dyn Clock> {
    Arc::new(FixedClock::new(NOW.plus(LEASE * 2)))
}

struct Stores {
    postgres: PostgresStore,
    directory: tempfile::TempDir,
}

impl Stores {
    fn new() -> Self {
        Self {
            postgres: PostgresStore::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str) -> LedgerStore {
        LedgerStore::Sqlite(self.directory.path().join(name))
    }

    fn database(&self) -> LedgerStore {
        let url = self.postgres.server.socket_url(&self.postgres.database);
        LedgerStore::Postgres(Box::new(PostgresConfig::parse(&url, None).unwrap()))
    }
}

async fn moved(from: &LedgerStore, to: &LedgerStore) -> Result<CopyReport, LedgerError> {
    copy(from, to, None, later(), |_| {}).await
}

async fn opened(store: &LedgerStore) -> Result<Arc<dyn Ledger>, LedgerError> {
    store.open(OpenMode::Server, later()).await
}

/// Everything that the program reads of certificates and records.
async fn read(ledger: &dyn Ledger) -> String {
    let all = Filter {
        limit: 10_000,
        ..Filter::default()
    };
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        ledger.certificates(all).await.unwrap(),
        ledger.snapshot().await.unwrap(),
        ledger.high_water().await.unwrap(),
        ledger.identity().await.unwrap(),
        ledger.rotations().await.unwrap(),
        ledger.work_leases().await.unwrap(),
        ledger.rollouts().await.unwrap(),
    )
}

/// A ledger of several pages, with open and failed intents among them.
async fn filled(store: &LedgerStore, certificates: usize) -> Fixture {
    let clock = Arc::new(FixedClock::new(NOW));
    let ledger = store.open(OpenMode::Server, clock).await.unwrap();
    let fixture = Fixture::build(ledger).await;
    fixture.issue(fixture.leaf("first")).await;
    let id = new(fixture.ledger.record(fixture.leaf("failed")).await.unwrap());
    fixture.ledger.conclude(id, failed("f")).await.unwrap();
    let with_key = Intent {
        idempotency_key: Some("key".into()),
        ..fixture.leaf("with-key")
    };
    fixture.issue(with_key).await;
    let many = (0..certificates).map(|n| {
        let subject = format!("spiffe://mesh.example/ns/foo/sa/bar-{n}");
        fixture.ledger.record(fixture.intent(&subject))
    });
    for record in futures_util::future::join_all(many).await {
        record.unwrap();
    }
    fixture
}

/// There and back: what the program reads is the same, and both go on from there.
#[test]
fn a_ledger_moves_there_and_back() {
    let stores = Stores::new();
    let (first, database, last) = (
        stores.file("first.db"),
        stores.database(),
        stores.file("last.db"),
    );
    block_on(async {
        let fixture = filled(&first, 2200).await;
        let before = read(&*fixture.ledger).await;
        // A server uses it.
        let error = moved(&first, &database).await.unwrap_err();
        assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
        fixture.ledger.close().await;

        let report = moved(&first, &database).await.unwrap();
        let intents = report.tables.iter().find(|each| each.table == "intent");
        assert_eq!(intents.unwrap().rows, 2203);
        assert!(!report.continued);
        let there = opened(&database).await.unwrap();
        assert_eq!(read(&*there).await, before);
        assert_eq!(there.check().await.unwrap().problems, [""; 0]);

        // It goes on: numbers, what is open, what is unique.
        let clock = later();
        let epoch = there
            .register("server-0", LEASE, clock.now())
            .await
            .unwrap();
        let open = there.reconcile(&epoch, clock.now()).await.unwrap();
        assert_eq!(open, 2200);
        let fixture = Fixture {
            ledger: there,
            epoch,
            ..fixture
        };
        fixture.issue(fixture.leaf("second")).await;
        let trust_domain = domain("other.example");
        let create = Change::CreateAuthority { trust_domain };
        fixture.ledger.apply(create, &operator()).await.unwrap();
        let before = read(&*fixture.ledger).await;
        fixture.ledger.close().await;

        // In a database, the leases say who uses it.
        let error = moved(&database, &last).await.unwrap_err().to_string();
        assert!(
            error.contains("is in use: the leases of server-0 last"),
            "{error}"
        );
        let much_later = Arc::new(FixedClock::new(NOW.plus(LEASE * 9)));
        let report = copy(&database, &last, None, much_later, |_| {})
            .await
            .unwrap();
        let back = opened(&last).await.unwrap();
        assert_eq!(read(&*back).await, before);
        assert_eq!(back.high_water().await.unwrap(), report.reached);
        assert_eq!(back.check().await.unwrap().problems, [""; 0]);
        // A search by the index that SQLite's store has beside the rows.
        let found = back
            .certificates(Filter {
                subject: Some("spiffe://mesh.example/ns/foo/sa/bar-7".into()),
                recorded_after: Some(NOW),
                ..Filter::default()
            })
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        let fixture = Fixture {
            ledger: back,
            ..fixture
        };
        fixture.issue(fixture.leaf("third")).await;
        fixture.ledger.close().await;
    });
}

/// An interrupted copy goes on behind its last row; until it has ended, nothing starts on it.
#[test]
fn an_interrupted_copy_goes_on() {
    let stores = Stores::new();
    for (from, to) in [
        (stores.file("a.db"), stores.database()),
        (stores.file("b.db"), stores.file("c.db")),
    ] {
        block_on(async {
            let fixture = filled(&from, 1500).await;
            let before = read(&*fixture.ledger).await;
            fixture.ledger.close().await;
            // It ends as if it was killed, with a page of intents there.
            let (source, target) = (from.clone(), to.clone());
            let (reached, mut seen) = tokio::sync::oneshot::channel();
            let reached = Mutex::new(Some(reached));
            let copying = tokio::spawn(async move {
                copy(&source, &target, None, later(), |progress| {
                    let is_there = progress.step == CopyStep::Copying
                        && (progress.table, progress.rows) == ("intent", 1000);
                    if is_there && let Some(reached) = reached.lock().unwrap().take() {
                        reached.send(()).unwrap();
                        // Nothing of this task runs on.
                        panic!("killed");
                    }
                })
                .await
            });
            assert!(copying.await.unwrap_err().is_panic());
            seen.try_recv().unwrap();

            // What it held open ends with its tasks.
            let mut error = String::new();
            eventually(PATIENCE, "nobody uses the target", async || {
                error = opened(&to).await.unwrap_err().to_string();
                !error.contains("another server")
            })
            .await;
            assert!(error.contains("holds a part of a ledger"), "{error}");
            assert!(error.contains("`rootbridge ledger copy` again"), "{error}");
            let existing = to.open_existing(later()).await.unwrap_err();
            assert_eq!(existing.to_string(), error);
            // Half a ledger is copied nowhere, and no other ledger goes into it.
            let nowhere = stores.file("nowhere.db");
            let refused = moved(&to, &nowhere).await.unwrap_err().to_string();
            assert!(refused.contains("holds a part of a ledger"), "{refused}");
            let other = stores.file(&format!("other-{}.db", before.len()));
            filled(&other, 1).await.ledger.close().await;
            let refused = moved(&other, &to).await.unwrap_err().to_string();
            assert!(refused.contains("a part of another ledger"), "{refused}");

            let mut first = None;
            let report = copy(&from, &to, None, later(), |progress| {
                if progress.table == "intent" {
                    first.get_or_insert(progress.rows);
                }
            })
            .await
            .unwrap();
            assert!(report.continued);
            assert_eq!(first, Some(1000));
            let there = opened(&to).await.unwrap();
            assert_eq!(read(&*there).await, before);
            there.close().await;
        });
    }
}

/// What is refused before a row is written, and a difference that is found at the end.
#[test]
fn refuses_what_would_not_be_the_same_ledger() {
    let stores = Stores::new();
    let (from, database) = (stores.file("a.db"), stores.database());
    block_on(async {
        let fixture = filled(&from, 3).await;
        let reached = fixture.ledger.high_water().await.unwrap();
        fixture.issue(fixture.leaf("late")).await;
        let mark = fixture.ledger.high_water().await.unwrap();
        fixture.ledger.close().await;
        assert_ne!(reached, mark);

        let refused = async |from: &LedgerStore, to: &LedgerStore, part: &str| {
            let error = moved(from, to).await.unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        };
        refused(&from, &from, "are the same ledger").await;
        refused(&stores.file("none.db"), &database, "there is no ledger").await;
        // An older copy of what a server has seen.
        let older = stores.file("older.db");
        filled(&older, 1).await.ledger.close().await;
        let error = copy(&older, &database, Some(&mark), later(), |_| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not the newest"), "{error}");
        // A target with a ledger of its own.
        refused(&from, &older, "is not empty").await;

        // Somebody changes the target before the end.
        let target = stores.postgres.server;
        let name = stores.postgres.database.clone();
        let mut changed = false;
        let error = copy(&from, &database, None, later(), |progress| {
            if progress.step == CopyStep::Comparing && !changed {
                changed = true;
                target.psql(&name, "UPDATE instance SET lease = lease + 1");
            }
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(error.contains("the table instance of"), "{error}");
        assert!(error.contains("copy again"), "{error}");
        // And it stays half a ledger.
        refused(&database, &stores.file("b.db"), "holds a part of a ledger").await;
        // A column that a copy would lose.
        let other = PostgresStore::new();
        other.open().await.unwrap().close().await;
        other.psql("ALTER TABLE intent ADD COLUMN more text");
        let url = other.server.socket_url(&other.database);
        let settings = PostgresConfig::parse(&url, None).unwrap();
        refused(
            &from,
            &LedgerStore::Postgres(Box::new(settings)),
            "intent.more",
        )
        .await;
    });
}
