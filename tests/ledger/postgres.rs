//! What only the PostgreSQL store promises: several writers, commits whose answer is lost, settings
//! and roles that it refuses, and what it says when the database cannot be used.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use rootbridge::clock::FixedClock;
use rootbridge::ledger::{
    Change, Filter, Intent, IssuerState, Ledger, LedgerError, PasswordSource, Postgres,
    PostgresConfig, Record, State,
};
use rootbridge_test_support::files::{repository, write_secret};
use rootbridge_test_support::postgres::{PASSWORD, PostgresServer, USER};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres_proxy::Proxy;
use crate::support::{Fixture, Key, NOW, Store, block_on, failed, issued, new, operator, unknown};

/// A database of its own on the server that all tests share.
pub struct PostgresStore {
    server: &'static PostgresServer,
    database: String,
    clock: Arc<FixedClock>,
}

impl PostgresStore {
    pub fn new() -> Self {
        let server = PostgresServer::shared();
        Self {
            database: server.database(),
            server,
            clock: Arc::new(FixedClock::new(NOW)),
        }
    }

    pub async fn open(&self) -> Result<Postgres, LedgerError> {
        let url = self.server.socket_url(&self.database);
        open(&url, None, &self.clock).await
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.database, sql)
    }

    fn ledger(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        async move { Arc::new(self.open().await.unwrap()) as Arc<dyn Ledger> }.boxed()
    }
}

impl Store for PostgresStore {
    fn server(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger()
    }

    fn other(&self) -> BoxFuture<'_, Arc<dyn Ledger>> {
        self.ledger()
    }

    fn clock(&self) -> &FixedClock {
        &self.clock
    }
}

async fn open(
    url: &str,
    password: Option<PasswordSource>,
    clock: &Arc<FixedClock>,
) -> Result<Postgres, LedgerError> {
    let settings = PostgresConfig::parse(url, password).unwrap();
    Postgres::open(settings, clock.clone()).await
}

fn says(error: &LedgerError, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

/// Two servers record at once, with a few idempotency keys and serials in common: each is used once,
/// and both see one truth.
#[test]
fn two_servers_share_one_ledger() {
    let store = PostgresStore::new();
    block_on(async {
        let one = Fixture::build(store.server().await).await;
        let two = store.server().await;
        let epoch = two
            .register("server-1", Duration::from_secs(30), NOW)
            .await
            .unwrap();
        let intents: Vec<Intent> = (0..40)
            .map(|n| Intent {
                idempotency_key: Some(format!("csr/{}", n % 20)),
                ..one.leaf(&format!("account-{n}"))
            })
            .collect();
        let records = join_all(intents.iter().enumerate().map(|(n, intent)| {
            let (ledger, epoch) = match n % 2 {
                0 => (&one.ledger, &one.epoch),
                _ => (&two, &epoch),
            };
            let intent = Intent {
                epoch: epoch.clone(),
                ..intent.clone()
            };
            ledger.record(intent)
        }))
        .await;
        let mut ids = Vec::new();
        let mut existing = 0;
        for record in records {
            match record.unwrap() {
                Record::New(id) => ids.push(id),
                Record::Existing { .. } => existing += 1,
            }
        }
        assert_eq!((ids.len(), existing), (20, 20));
        // Either concludes what the other has recorded; the second with another outcome is refused.
        for id in &ids {
            one.ledger
                .conclude(*id, issued(b"signature"))
                .await
                .unwrap();
            two.conclude(*id, issued(b"signature")).await.unwrap();
            let error = two.conclude(*id, issued(b"other")).await.unwrap_err();
            let state = State::Issued;
            assert_eq!(error, LedgerError::AlreadyConcluded { intent: *id, state });
        }
        let all = Filter::default();
        let (here, there) = (
            one.ledger.certificates(all.clone()).await.unwrap(),
            two.certificates(all).await.unwrap(),
        );
        assert_eq!(here, there);
        assert_eq!(here.len(), 20);
        // What one changes is what the other admits by, from its next batch on.
        let retire = Change::SetIssuerState {
            issuer: one.issuing.id(),
            state: IssuerState::Retired,
        };
        one.ledger.apply(retire, &operator()).await.unwrap();
        assert_eq!(
            one.ledger.revision().await.unwrap(),
            two.revision().await.unwrap()
        );
        let late = Intent {
            epoch,
            ..one.leaf("late")
        };
        let error = two.record(late).await.unwrap_err();
        assert!(
            matches!(error, LedgerError::IssuerNotActive { .. }),
            "{error}"
        );
    });
}

/// Each connection that is lost around a commit leaves a result that is true: what `record` says is on
/// record is, and what it refuses may be there only to be concluded as unknown.
#[test]
fn a_lost_answer_to_a_commit_is_asked_for() {
    let store = PostgresStore::new();
    block_on(async {
        let fixture = Fixture::build(store.server().await).await;
        // The server ends the connection itself, in the commit: a deferred trigger.
        store.psql(
            "CREATE TABLE ends (left_to_end bigint); INSERT INTO ends VALUES (0);
             CREATE FUNCTION end_connection() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                IF nextval('times') % 2 = 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
                RETURN NULL;
             END $$;
             CREATE SEQUENCE times;
             CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON intent DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION end_connection()",
        );
        for n in 0..6 {
            let intent = fixture.leaf(&format!("account-{n}"));
            let serial = intent.serial.unwrap();
            let id = new(fixture.ledger.record(intent).await.unwrap());
            let row = fixture.ledger.certificate(None, &serial).await.unwrap();
            assert_eq!(row.unwrap().id, id);
        }
        // Half of the commits were lost, and made again under new numbers; none was made twice.
        let times: u64 = store.psql("SELECT last_value FROM times").parse().unwrap();
        assert!(times >= 11, "{times} commits");
        let all = fixture
            .ledger
            .certificates(Filter::default())
            .await
            .unwrap();
        assert_eq!(all.len(), 6);
    });
}

/// The answer is lost after the commit: the proxy between passes everything on but the answer.
#[test]
fn a_commit_without_an_answer_counts() {
    let store = PostgresStore::new();
    block_on(async {
        let proxy = Proxy::start(store.server).await;
        let url = proxy.url(&store.database);
        let password = PasswordSource::File(proxy.password());
        let through = open(&url, Some(password), &store.clock).await.unwrap();
        let fixture = Fixture::build(Arc::new(through)).await;
        for n in 0..3 {
            let before = proxy.cut();
            proxy.swallow_after_commit();
            let intent = fixture.leaf(&format!("account-{n}"));
            let serial = intent.serial.unwrap();
            let id = new(fixture.ledger.record(intent).await.unwrap());
            assert_eq!(proxy.cut(), before + 1, "the answer came through");
            let row = fixture.ledger.certificate(None, &serial).await.unwrap();
            let row = row.unwrap();
            assert_eq!((row.id, row.state), (id, State::Pending));
        }
        let all = fixture
            .ledger
            .certificates(Filter::default())
            .await
            .unwrap();
        assert_eq!(all.len(), 3, "a batch was made twice");
        // Nothing but the first numbers was used: no batch was made again.
        assert_eq!(store.psql("SELECT last_value FROM intent_id"), "3");
    });
}

/// What an operator gets wrong, each with what to do about it; nothing waits for long.
#[test]
fn says_what_to_do() {
    let store = PostgresStore::new();
    let server = store.server;
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            write_secret(&path, text);
            path
        };
        let right = file("right", &format!("{PASSWORD}\n"));
        let wrong = file("wrong", "not the password");
        let stranger = file("stranger.pem", &stranger_root());
        let tls = server.tls_url(&store.database);
        let open = async |url: &str, password: Option<&std::path::Path>| {
            let password = password.map(|path| PasswordSource::File(path.to_owned()));
            open(url, password, &store.clock).await
        };
        open(&tls, Some(&right)).await.unwrap().close().await;

        let missing = directory.path().join("missing");
        let no_database = server.tls_url("no_such_database");
        let other_ca = tls.replace(
            &server.roots().display().to_string(),
            &stranger.display().to_string(),
        );
        let refused = tls.replace(&format!(":{}", server.port), ":1");
        for (url, password, parts) in [
            (
                &tls,
                Some(&wrong),
                &["refuses the password", "ledger.password_file"][..],
            ),
            (&tls, None, &["asks for a password", "ledger.password_file"]),
            (
                &tls,
                Some(&missing),
                &["password cannot be read", "missing"],
            ),
            (
                &no_database,
                Some(&right),
                &["no such database", "CREATE DATABASE"],
            ),
            (&other_ca, Some(&right), &["another CA", "sslrootcert"]),
            (
                &refused,
                Some(&right),
                &["no database server listens", "ledger.url"],
            ),
        ] {
            let error = open(url, password.map(|path| path.as_path()))
                .await
                .unwrap_err();
            says(&error, parts);
            says(&error, &["postgres://rootbridge@"]);
            assert!(!error.to_string().contains("not the password"), "{error}");
        }
        // Through the proxy the server has an address that its certificate does not name.
        let proxy = Proxy::start(server).await;
        let other_name = tls.replace(
            &format!("{}:{}", server.address, server.port),
            &proxy.address(),
        );
        let error = open(&other_name, Some(&right)).await.unwrap_err();
        says(&error, &["is for another name", "ledger.url"]);

        // Settings with which a confirmed commit is lost.
        store.psql(&format!(
            "ALTER DATABASE {} SET synchronous_commit = off",
            store.database
        ));
        let error = store.open().await.unwrap_err();
        says(&error, &["synchronous_commit = off", "set it to on"]);
        // A database that takes no writes, as a standby does.
        store.psql(&format!(
            "ALTER DATABASE {db} RESET synchronous_commit;
             ALTER DATABASE {db} SET default_transaction_read_only = on",
            db = store.database
        ));
        let error = store.open().await.unwrap_err();
        says(&error, &["read-only standby", "add the primary"]);
    });
}

/// A schema that this program does not know, and one that was tampered with.
#[test]
fn a_schema_that_is_not_its_own_is_refused() {
    let store = PostgresStore::new();
    block_on(async {
        store.open().await.unwrap().close().await;
        // A newer one that the older programs work beside.
        store.psql("INSERT INTO rootbridge_schema VALUES (98, 1)");
        store.open().await.unwrap().close().await;
        store.psql("INSERT INTO rootbridge_schema VALUES (99, 99)");
        let error = store.open().await.unwrap_err();
        assert!(
            matches!(error, LedgerError::NewerSchema { found: 99, .. }),
            "{error}"
        );
        store.psql("DELETE FROM rootbridge_schema WHERE version > 90");
        for tampering in [
            "DROP TRIGGER intent_update ON intent",
            "ALTER TABLE conclusion DISABLE TRIGGER conclusion_delete",
        ] {
            let store = PostgresStore::new();
            let ledger = store.open().await.unwrap();
            store.psql(tampering);
            let problems = ledger.check().await.unwrap().problems;
            assert!(problems[0].contains("triggers"), "{problems:?}");
            let error = store.open().await.unwrap_err();
            assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
            says(&error, &["triggers"]);
        }
        let store = PostgresStore::new();
        store.psql("CREATE TABLE intent (id bigint)");
        let error = store.open().await.unwrap_err();
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
    });
}

/// The servers' role issues, and can change or remove nothing of what was recorded.
#[test]
fn the_servers_role_only_adds() {
    let store = PostgresStore::new();
    block_on(async {
        store.open().await.unwrap().close().await;
        let role = format!("server_{}", store.database);
        store.psql(&format!("CREATE ROLE {role} LOGIN"));
        let grants = std::fs::read_to_string(repository("deploy/postgres/grants.sql")).unwrap();
        store.psql(&grants.replace(":\"server\"", &role));
        let url = store.server.socket_url(&store.database);
        let url = url.replace("rootbridge@", &format!("{role}@"));
        let ledger = open(&url, None, &store.clock).await.unwrap();
        let fixture = Fixture::build(Arc::new(ledger)).await;
        let id = fixture.issue(fixture.leaf("bar")).await;
        let failed_id = new(fixture.ledger.record(fixture.leaf("baz")).await.unwrap());
        fixture
            .ledger
            .conclude(failed_id, failed("f"))
            .await
            .unwrap();
        fixture
            .ledger
            .reopen(failed_id, unknown("u"))
            .await
            .unwrap();
        new(fixture.ledger.record(fixture.leaf("open")).await.unwrap());
        let later = NOW.plus(Duration::from_secs(3600));
        let other = fixture
            .ledger
            .register("server-1", Duration::from_secs(30), later)
            .await
            .unwrap();
        fixture.ledger.renew(&other, later).await.unwrap();
        let concluded = fixture.ledger.reconcile(&other, later).await.unwrap();
        assert_eq!(concluded, 1);
        assert_eq!(fixture.ledger.check().await.unwrap().problems, [""; 0]);
        for forbidden in [
            "UPDATE intent SET subject = 'x'",
            "DELETE FROM intent",
            "TRUNCATE intent",
            "DELETE FROM conclusion",
            "TRUNCATE conclusion",
            "UPDATE conclusion SET intent = 7",
            "DELETE FROM bundle",
            "UPDATE operator_action SET detail = 'x'",
            "DELETE FROM operator_action",
            "DELETE FROM epoch",
            "DROP TRIGGER intent_update ON intent",
            "ALTER TABLE intent DISABLE TRIGGER ALL",
            "INSERT INTO rootbridge_schema VALUES (99, 99)",
        ] {
            let refused = store.server.try_psql(&store.database, &role, forbidden);
            let error = refused.expect_err(forbidden);
            assert!(
                error.contains("permission denied") || error.contains("must be owner"),
                "{forbidden}: {error}"
            );
        }
        // What it may change has its rules; the owner is bound by them too.
        let back = format!("UPDATE conclusion SET state = 2 WHERE intent = {id}");
        for by in [role.as_str(), USER] {
            let error = store
                .server
                .try_psql(&store.database, by, &back)
                .unwrap_err();
            assert!(error.contains("only changes from failed"), "{error}");
        }
        for forbidden in ["DELETE FROM intent", "TRUNCATE conclusion"] {
            let error = store.server.try_psql(&store.database, USER, forbidden);
            let error = error.unwrap_err();
            assert!(error.contains("never"), "{error}");
        }
    });
}

/// A lock that somebody else holds ends in a message, and leaves nothing signed or half recorded.
#[test]
fn a_strangers_lock_is_reported() {
    let store = PostgresStore::new();
    block_on(async {
        let fixture = Fixture::build(store.server().await).await;
        let stranger = std::process::Command::new(PostgresServer::program("psql"))
            .args(store.server.psql_arguments(&store.database))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut stranger = stranger.unwrap();
        let mut input = stranger.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"BEGIN; LOCK TABLE intent;\n").unwrap();
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'intent'::regclass
            AND mode = 'AccessExclusiveLock' AND granted";
        eventually(PATIENCE, "the lock is held", async || {
            store.psql(held) == "1"
        })
        .await;
        let error = fixture
            .ledger
            .record(fixture.leaf("bar"))
            .await
            .unwrap_err();
        assert!(error.is_outage(), "{error}");
        says(&error, &["holds a lock", "pg_locks"]);
        drop(input);
        stranger.wait().unwrap();
        eventually(PATIENCE, "it records again", async || {
            fixture.ledger.record(fixture.leaf("bar")).await.is_ok()
        })
        .await;
    });
}

/// A root that nobody has signed anything with.
fn stranger_root() -> String {
    let key = Key::new();
    let der = key.root("stranger");
    rootbridge::x509::to_pem("CERTIFICATE", &der)
}
