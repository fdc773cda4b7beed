//! What the check of the SQLite store finds: each kind of damage by itself, done with SQL as a broken
//! disk or a careless hand would do it.

use rootbridge::ledger::{CheckReport, Intent, Kind};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::sqlite::{SqliteStore, raw};
use crate::support::{Fixture, Store, block_on, failed, new};

/// A ledger with two leaves, a certification request and a failed intent; the leaves are 1 and 2.
async fn ledger(store: &SqliteStore) -> Fixture {
    let fixture = Fixture::build(store.server().await).await;
    fixture.issue(fixture.leaf("one")).await;
    fixture.issue(fixture.leaf("two")).await;
    // Neither has a certificate that its row could be compared with.
    let request = Intent {
        kind: Kind::Request,
        serial: None,
        ..fixture.intent("request")
    };
    fixture.issue(request).await;
    let id = new(fixture.ledger.record(fixture.intent("x")).await.unwrap());
    fixture.ledger.conclude(id, failed("f")).await.unwrap();
    fixture
}

/// Runs `statements` as if the schema had no triggers, checks and foreign keys.
async fn damage(store: &SqliteStore, statements: &[&str]) {
    let mut conn = raw(&store.path()).await;
    run(&mut conn, "PRAGMA foreign_keys = OFF").await;
    run(&mut conn, "PRAGMA ignore_check_constraints = ON").await;
    let triggers: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    for trigger in triggers {
        run(&mut conn, &format!("DROP TRIGGER {trigger}")).await;
    }
    for statement in statements {
        run(&mut conn, statement).await;
    }
    conn.close().await.unwrap();
}

async fn run(conn: &mut SqliteConnection, statement: &str) {
    let done = sqlx::query(AssertSqlSafe(statement)).execute(conn).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The report after `statements` on a ledger in order.
async fn after(statements: &[&str]) -> CheckReport {
    let store = SqliteStore::new();
    let fixture = ledger(&store).await;
    assert_eq!(fixture.ledger.check().await.unwrap().problems, [""; 0]);
    damage(&store, statements).await;
    fixture.ledger.check().await.unwrap()
}

#[test]
fn each_kind_of_damage_is_found() {
    block_on(async {
        for (statement, problem) in [
            (
                "UPDATE anchor SET origin = 'unknown'",
                "CHECK constraint failed in anchor",
            ),
            (
                "UPDATE intent SET ca_certificate = 99 WHERE id = 1",
                "1 rows refer to rows that do not exist",
            ),
            (
                "UPDATE ca_certificate SET not_after = (SELECT not_after - 1 FROM intent WHERE id = 1)",
                "2 certificates outlive their issuer's",
            ),
            ("DELETE FROM bundle_anchor", "1 bundle versions are empty"),
            (
                "UPDATE intent SET serial = x'0102030405' WHERE id = 2",
                "intent 2 differs from its certificate",
            ),
            (
                "UPDATE intent SET not_before = not_before - 1 WHERE id = 2",
                "intent 2 differs from its certificate",
            ),
            (
                "UPDATE intent SET not_after = not_after - 1 WHERE id = 2",
                "intent 2 differs from its certificate",
            ),
            (
                "UPDATE intent SET spki_sha256 = zeroblob(32) WHERE id = 1",
                "intent 1 differs from its certificate",
            ),
            (
                "UPDATE intent SET tbs = x'3000' WHERE id = 1",
                "the certificate of intent 1 does not parse",
            ),
            (
                "UPDATE intent SET tbs = x'00' WHERE id = 1",
                "intent 1 does not assemble",
            ),
            (
                "DELETE FROM _sqlx_migrations WHERE version > 1",
                "schema version 1 is not ",
            ),
        ] {
            let problems = after(&[statement]).await.problems;
            assert_eq!(problems.len(), 1, "{statement}: {problems:?}");
            assert!(problems[0].contains(problem), "{statement}: {problems:?}");
        }
    });
}

/// The schema forbids it, so the table is made again without the rule.
#[test]
fn a_serial_used_twice_is_found() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = ledger(&store).await;
        let mut conn = raw(&store.path()).await;
        let schema: String =
            sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE name = 'intent'")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        conn.close().await.unwrap();
        let copy = schema
            .replace("TABLE intent", "TABLE copy")
            .replace("UNIQUE (issuer, serial)", "CHECK (true)");
        assert_ne!(copy, schema.replace("TABLE intent", "TABLE copy"));
        damage(
            &store,
            &[
                "PRAGMA legacy_alter_table = ON",
                copy.as_str(),
                "INSERT INTO copy SELECT * FROM intent",
                "DROP TABLE intent",
                "ALTER TABLE copy RENAME TO intent",
            ],
        )
        .await;
        assert_eq!(fixture.ledger.check().await.unwrap().problems, [""; 0]);
        damage(
            &store,
            &[
                "CREATE TEMP TABLE again AS SELECT * FROM intent WHERE id = 1",
                "UPDATE again SET id = 99",
                "INSERT INTO intent SELECT * FROM again",
            ],
        )
        .await;
        let report = fixture.ledger.check().await.unwrap();
        assert_eq!(
            report.problems,
            ["1 serials were used more than once by one issuer"]
        );
        assert_eq!((report.intents, report.conclusions), (5, 4));
    });
}

/// A certificate may end in the same second as its issuer's.
#[test]
fn what_ends_with_its_issuer_is_no_damage() {
    block_on(async {
        let report = after(&[
            "UPDATE ca_certificate SET not_after = (SELECT not_after FROM intent WHERE id = 1)",
        ])
        .await;
        assert_eq!(report.problems, [""; 0]);
    });
}
