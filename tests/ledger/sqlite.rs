//! What only the SQLite store promises: its file, its lock, its schema, and a disk that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rootbridge::clock::FixedClock;
use rootbridge::ledger::{Change, Ledger, LedgerError, OpenMode, Role, Sqlite};
use rootbridge_test_support::{PATIENCE, eventually};
use sqlx::{ConnectOptions, Connection};

use crate::support::{
    Fixture, Key, NOW, Store, add_issuer, block_on, domain, issued, new, operator,
};

/// The newest migration.
const SCHEMA: u64 = 9;

/// A file in a directory of its own.
pub struct SqliteStore {
    dir: tempfile::TempDir,
    clock: Arc<FixedClock>,
}

impl SqliteStore {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(FixedClock::new(NOW)),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    pub async fn open(&self, mode: OpenMode) -> Result<Sqlite, LedgerError> {
        open(&self.path(), mode).await
    }

    fn ledger(&self, mode: OpenMode) -> BoxFuture<'_, Arc<dyn Ledger>> {
        async move {
            let sqlite = Sqlite::open(self.path(), mode, self.clock.clone())
                .await
                .unwrap();
            Arc::new(sqlite) as Arc<dyn Ledger>
        }
        .boxed()
    }
}

impl Store for SqliteStore {
    fn server(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger(OpenMode::Server)
    }

    fn other(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger(OpenMode::Shared)
    }

    fn clock(&self) -> &FixedClock {
        &self.clock
    }
}

pub async fn open(path: &Path, mode: OpenMode) -> Result<Sqlite, LedgerError> {
    Sqlite::open(path, mode, Arc::new(FixedClock::new(NOW))).await
}

pub async fn raw(path: &Path) -> sqlx::SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

#[test]
fn belongs_to_one_server() {
    block_on(async {
        let store = SqliteStore::new();
        let server = store.open(OpenMode::Server).await.unwrap();
        server
            .register("server-0", Duration::from_secs(9), NOW)
            .await
            .unwrap();
        let error = store.open(OpenMode::Server).await.unwrap_err();
        let LedgerError::Locked { holder, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            *holder,
            format!("pid {}, instance server-0", std::process::id())
        );
        store.open(OpenMode::Shared).await.unwrap();
        server.close().await;
        store.open(OpenMode::Server).await.unwrap();
    });
}

#[test]
fn a_dropped_server_frees_its_lock() {
    block_on(async {
        let store = SqliteStore::new();
        drop(store.open(OpenMode::Server).await.unwrap());
        eventually(PATIENCE, "the lock is free", async || {
            store.open(OpenMode::Server).await.is_ok()
        })
        .await;
    });
}

#[test]
fn is_nobody_elses_to_read() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = Fixture::build(store.server().await).await;
        fixture.issue(fixture.leaf("bar")).await;
        for end in ["", "-wal", "-shm", ".lock"] {
            let path = PathBuf::from(format!("{}{end}", store.path().display()));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    });
}

/// A server under full load accepts a command's changes at once.
#[test]
fn a_command_works_next_to_a_busy_server() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = Arc::new(Fixture::build(store.server().await).await);
        let stop = Arc::new(AtomicBool::new(false));
        let load: Vec<_> = (0..64)
            .map(|_| {
                let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut done = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let id = new(fixture.ledger.record(fixture.intent("bar")).await.unwrap());
                        fixture.ledger.conclude(id, issued(b"s")).await.unwrap();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let command = store.open(OpenMode::Shared).await.unwrap();
        for n in 0..20 {
            let trust_domain = domain(&format!("n{n}.example"));
            let create = Change::CreateAuthority { trust_domain };
            command.apply(create, &operator()).await.unwrap();
        }
        assert_eq!(
            fixture.ledger.snapshot().await.unwrap().authorities.len(),
            21
        );
        stop.store(true, Ordering::Relaxed);
        let mut done = 0;
        for task in load {
            done += task.await.unwrap();
        }
        // How fast is for the benchmark: here it must not have stood still.
        assert!(done > 10, "the server went on: {done}");
    });
}

#[test]
fn commands_may_meet_at_a_new_file() {
    block_on(async {
        let store = SqliteStore::new();
        let opened = futures_util::future::join_all((0..6).map(|_| store.open(OpenMode::Shared)));
        for ledger in opened.await {
            ledger
                .unwrap()
                .register("cli", Duration::from_secs(1), NOW)
                .await
                .unwrap();
        }
    });
}

#[test]
fn a_newer_schema_is_left_alone() {
    block_on(async {
        let store = SqliteStore::new();
        store.open(OpenMode::Server).await.unwrap().close().await;
        let mut conn = raw(&store.path()).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (99, 'later', 1, x'00', 0)",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        conn.close().await.unwrap();
        for mode in [OpenMode::Server, OpenMode::Shared] {
            let error = store.open(mode).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    LedgerError::NewerSchema {
                        found: 99,
                        supported: SCHEMA,
                        ..
                    }
                ),
                "{error}"
            );
            assert!(error.to_string().contains("ledger.db"), "{error}");
        }
    });
}

#[test]
fn what_is_no_ledger_is_left_alone() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(
            &text,
            "This is no database, however long one looks at it. ".repeat(100),
        )
        .unwrap();
        let other = dir.path().join("other.db");
        fs::write(&other, "").unwrap();
        let mut conn = raw(&other).await;
        sqlx::query("CREATE TABLE things (thing)")
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        for path in [&text, &other] {
            let before = fs::read(path).unwrap();
            let error = open(path, OpenMode::Server).await.unwrap_err();
            assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
            assert!(fs::read(path).unwrap() == before, "{}", path.display());
        }
        // An empty file is a ledger that has not begun.
        let empty = dir.path().join("empty.db");
        fs::write(&empty, "").unwrap();
        open(&empty, OpenMode::Server).await.unwrap();
        for (path, says) in [
            (dir.path().join("no/such/ledger.db"), "does not exist"),
            (dir.path().to_owned(), "cannot be"),
        ] {
            let error = open(&path, OpenMode::Server).await.unwrap_err();
            assert!(
                matches!(error, LedgerError::Unavailable { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains(says), "{error}");
        }
    });
}

#[test]
fn the_schema_itself_forbids_rewriting() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = Fixture::build(store.server().await).await;
        fixture.issue(fixture.leaf("bar")).await;
        let id = new(fixture.ledger.record(fixture.leaf("bar")).await.unwrap());
        fixture
            .ledger
            .conclude(id, crate::support::failed("f"))
            .await
            .unwrap();
        let mut conn = raw(&store.path()).await;
        for sql in [
            "UPDATE intent SET tbs = x'00'",
            "DELETE FROM intent",
            "UPDATE conclusion SET signature = x'00' WHERE state = 1",
            "UPDATE conclusion SET state = 3, signature = NULL, reason = 'r' WHERE state = 1",
            "UPDATE conclusion SET state = 2, signature = NULL, reason = 'r' WHERE state = 1",
            "UPDATE conclusion SET state = 3, intent = 99 WHERE state = 2",
            "UPDATE conclusion SET reason = 'r' WHERE state = 2",
            "DELETE FROM conclusion",
            "INSERT INTO conclusion VALUES (99, 1, x'00', NULL, 0)",
            "UPDATE bundle SET digest = x'00'",
            "DELETE FROM bundle",
            "UPDATE bundle_anchor SET der = x'00'",
            "DELETE FROM bundle_anchor",
            "UPDATE operator_action SET actor = 'nobody'",
            "DELETE FROM operator_action",
            "UPDATE issuer SET state = 'pending'",
            "UPDATE issuer SET public_key = x'00'",
            "DELETE FROM issuer",
            "UPDATE ca_certificate SET state = 'pending'",
            "UPDATE ca_certificate SET der = x'00'",
            "DELETE FROM ca_certificate",
            "UPDATE anchor SET state = 'pending'",
            "UPDATE anchor SET der = x'00'",
            "DELETE FROM anchor",
        ] {
            let error = sqlx::query(sql).execute(&mut conn).await.expect_err(sql);
            assert!(error.to_string().contains("(code: "), "{sql}: {error}");
        }
        let actions: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT actor, action, revision FROM operator_action ORDER BY id")
                .fetch_all(&mut conn)
                .await
                .unwrap();
        let message = |n: usize| (actions[n].0.as_str(), actions[n].1.as_str(), actions[n].2);
        assert_eq!(message(0), ("alice", "create-authority", 1));
        assert_eq!(message(4), ("alice", "add-ca-certificate", 5));
    });
}

/// Numbers, records and intents of two processes do not get in each other's way.
#[test]
fn two_processes_share_what_they_write() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = Fixture::build(store.server().await).await;
        let command = store.other().await;
        let key = Key::new();
        command
            .apply(
                add_issuer(&fixture.domain, &key, Role::Issuing),
                &operator(),
            )
            .await
            .unwrap();
        let epoch = command
            .register("cli-1", Duration::from_secs(60), NOW)
            .await
            .unwrap();
        let mut request = crate::support::intent(&key.id(), &fixture.domain, &epoch, "request");
        request.kind = rootbridge::ledger::Kind::Request;
        let mut ids = Vec::new();
        for _ in 0..50 {
            request.serial = Some(rootbridge::x509::Serial::new(NOW));
            let (a, b) = tokio::join!(
                command.record(request.clone()),
                fixture.ledger.record(fixture.intent("bar"))
            );
            ids.extend([new(a.unwrap()), new(b.unwrap())]);
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100, "numbers are given once among processes");
    });
}
