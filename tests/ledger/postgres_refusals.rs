//! What the PostgreSQL store refuses: settings, schemas and roles that are not as they must be; and what
//! it says when the database cannot be used.

use std::sync::Arc;
use std::time::Duration;

use rootbridge::clock::FixedClock;
use rootbridge::ledger::{Ledger, LedgerError, PasswordSource, Postgres, PostgresConfig};
use rootbridge_test_support::files::{repository, write_secret};
use rootbridge_test_support::postgres::{CERTIFIED, PASSWORD, PostgresServer, USER};
use rootbridge_test_support::{PATIENCE, eventually};

use crate::postgres::{PostgresStore, open};
use crate::postgres_proxy::Proxy;
use crate::support::{Fixture, Key, NOW, Store, block_on, failed, new, unknown};

fn says(error: &LedgerError, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
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

        // A new password counts from the next connection on, without a restart.
        let role = format!("rotating_{}", store.database);
        store.psql(&format!(
            "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'old'"
        ));
        let changing = file("changing", "old");
        let as_role = tls.replace("rootbridge@", &format!("{role}@"));
        let ledger = open(&as_role, Some(&changing)).await.unwrap();
        store.psql(&format!("ALTER ROLE {role} PASSWORD 'new'"));
        std::fs::write(&changing, "new\n").unwrap();
        store.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
        ));
        eventually(PATIENCE, "it has connected again", async || {
            ledger.snapshot().await.is_ok()
        })
        .await;
        ledger.close().await;
        // No place for another connection.
        store.psql(&format!("ALTER ROLE {role} NOSUPERUSER CONNECTION LIMIT 0"));
        let error = open(&as_role, Some(&changing)).await.unwrap_err();
        says(&error, &["no place for another connection", "raise"]);
        // A server that is gone is passed by.
        let dead = format!("@127.0.0.1:1,{}:{}", server.address, server.port);
        let several = tls.replace(&format!("@{}:{}", server.address, server.port), &dead);
        open(&several, Some(&right)).await.unwrap().close().await;

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
            let name = tampering.split_whitespace().find(|word| word.contains("_"));
            let name = name.unwrap();
            assert!(problems[0].contains(name), "{problems:?}");
            let error = store.open().await.unwrap_err();
            assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
            says(&error, &["changed by hand", name]);
        }
        // Of each unique index that is not a row's own number, it is known when it is gone.
        let store = PostgresStore::new();
        let ledger = store.open().await.unwrap();
        let keys = store.psql(
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
             WHERE indisunique AND relname NOT LIKE '%pkey'  AND relnamespace = 'public'::regnamespace",
        );
        let keys: Vec<&str> = keys
            .lines()
            .chain(["intent_pkey", "conclusion_pkey"])
            .collect();
        assert!(keys.contains(&"intent_issuer_serial_key"), "{keys:?}");
        for key in &keys {
            store.psql(&format!("ALTER INDEX {key} RENAME TO renamed"));
            let problems = ledger.check().await.unwrap().problems;
            assert!(problems[0].contains(key), "{key}: {problems:?}");
            store.psql(&format!("ALTER INDEX renamed RENAME TO {key}"));
        }
        assert_eq!(ledger.check().await.unwrap().problems, [""; 0]);
        ledger.close().await;
        let store = PostgresStore::new();
        store.psql("CREATE TABLE intent (id bigint)");
        let error = store.open().await.unwrap_err();
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
    });
}

/// A client certificate instead of a password; and the settings of a server that keeps nothing.
#[test]
fn a_certificate_and_a_setting() {
    let server = PostgresServer::with_settings("fsync = off");
    let database = server.database();
    server.psql(
        &database,
        &format!("CREATE ROLE {CERTIFIED} LOGIN SUPERUSER"),
    );
    let (certificate, key) = server.client_certificate();
    let url = server.tls_url(&database);
    let url = url.replace(&format!("{USER}@"), &format!("{CERTIFIED}@"));
    let with = format!(
        "{url}&sslcert={}&sslkey={}",
        certificate.display(),
        key.display()
    );
    let clock = Arc::new(FixedClock::new(NOW));
    block_on(async {
        let error = open(&url, None, &clock).await.unwrap_err();
        says(&error, &["refuses this user", "pg_hba.conf"]);
        // It is let in, and then does not trust the server with anything.
        let error = open(&with, None, &clock).await.unwrap_err();
        says(&error, &["fsync = off", "set it to on"]);
        server.psql(&database, "ALTER SYSTEM SET fsync = on");
        server.psql(&database, "SELECT pg_reload_conf()");
        eventually(PATIENCE, "it can be used", async || {
            open(&with, None, &clock).await.is_ok()
        })
        .await;
    });
}

/// What only reads a ledger makes none; the first that writes does.
#[test]
fn reading_makes_no_schema() {
    let store = PostgresStore::new();
    block_on(async {
        let url = store.server.socket_url(&store.database);
        let existing = async || {
            let settings = PostgresConfig::parse(&url, None).unwrap();
            Postgres::open_existing(settings, store.clock.clone()).await
        };
        assert!(existing().await.unwrap().is_none());
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
        assert_eq!(store.psql(tables), "0");
        store.open().await.unwrap().close().await;
        let ledger = existing().await.unwrap().unwrap();
        assert_eq!(ledger.revision().await.unwrap(), 0);
        store.psql("INSERT INTO rootbridge_schema VALUES (99, 99)");
        let error = existing().await.unwrap_err();
        assert!(
            matches!(error, LedgerError::NewerSchema { found: 99, .. }),
            "{error}"
        );
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
