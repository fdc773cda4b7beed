//! What can go wrong on a database server while a server runs: each is refused with what to do about it,
//! nothing is signed without a record, and it goes on by itself.

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::postgres::{PostgresServer, USER};
use rootbridge_test_support::{PATIENCE, TD, eventually};
use tonic::Code;

use crate::postgres::with_database;

struct Fault {
    name: &'static str,
    begin: &'static str,
    /// The statement itself fails, and its effect is the fault.
    begin_fails: bool,
    end: &'static str,
    /// What the server's log says from then on.
    says: &'static [&'static str],
}

const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON intent FOR EACH STATEMENT EXECUTE FUNCTION slow()";

/// Ends the connections of `server`, of which none is to spare.
const CROWDED: &str = "ALTER ROLE server CONNECTION LIMIT 0;
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'server'";

const FAULTS: &[Fault] = &[
    Fault {
        name: "a statement takes too long",
        begin: SLOW,
        begin_fails: false,
        end: "DROP TRIGGER slow ON intent; DROP FUNCTION slow",
        says: &["a statement took too long", "pg_stat_activity"],
    },
    Fault {
        name: "a trigger is disabled by hand",
        begin: "ALTER TABLE intent DISABLE TRIGGER intent_update",
        begin_fails: false,
        end: "ALTER TABLE intent ENABLE TRIGGER intent_update",
        says: &[
            "the schema was changed by hand",
            "(intent_update)",
            "ENABLE TRIGGER",
        ],
    },
    Fault {
        name: "a column is renamed by hand",
        begin: "ALTER TABLE intent RENAME tbs TO tbs2",
        begin_fails: false,
        end: "ALTER TABLE intent RENAME tbs2 TO tbs",
        says: &["the ledger's schema was changed by hand", "undo the change"],
    },
    Fault {
        name: "the disk is full",
        begin: "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 10000)",
        begin_fails: true,
        end: "DROP TABLE filler",
        says: &["the database server's disk is full: free some space"],
    },
    Fault {
        name: "there is no place for a connection",
        begin: CROWDED,
        begin_fails: false,
        end: "ALTER ROLE server CONNECTION LIMIT -1",
        says: &["no place for another connection", "raise max_connections"],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_database_sign_nothing() {
    let database = PostgresServer::with_small_disk(1 << 20, "");
    let name = database.database();
    let setup = with_database(&database, &name);
    // The limit of connections is not for superusers.
    let password = rootbridge_test_support::postgres::PASSWORD;
    database.psql(
        &name,
        &format!(
            "CREATE ROLE server LOGIN PASSWORD '{password}';
             GRANT ALL ON ALL TABLES IN SCHEMA public TO server;
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO server"
        ),
    );
    let small = database.small_disk().display().to_string();
    database.psql(
        &name,
        &format!("CREATE TABLESPACE small LOCATION '{small}'"),
    );
    database.psql(
        &name,
        "ALTER TABLE intent SET TABLESPACE small; CREATE TABLE filler (t text) TABLESPACE small",
    );
    setup.edit(&format!("postgres://{USER}@"), "postgres://server@");
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    for fault in FAULTS {
        let what = fault.name;
        let said = server.log().len();
        let begun = database.try_psql(&name, USER, fault.begin);
        assert_eq!(begun.is_err(), fault.begin_fails, "{what}: {begun:?}");
        // What was noticed in the last seconds counts that long, and a page may have room for a few more.
        eventually(PATIENCE, what, async || {
            client.istio(&token, &csr).await.is_err()
        })
        .await;
        let before = server.signatures().await;
        refusal(client.istio(&token, &csr).await, Code::Unavailable);
        assert_eq!(
            server.signatures().await,
            before,
            "{what}: signed without a record"
        );
        for part in fault.says {
            eventually(PATIENCE, part, async || {
                server
                    .log()
                    .get(said..)
                    .is_some_and(|log| log.contains(part))
            })
            .await;
        }
        database.psql(&name, fault.end);
        eventually(PATIENCE, what, async || {
            client.istio(&token, &csr).await.is_ok()
        })
        .await;
    }
    server.stop_in_order().await;
    let open = setup.certificates(&["--state", "pending"]);
    assert!(open.is_empty(), "{open:#?}");
    // A fault may begin between a record and its signature: then the record says so.
    for each in setup.certificates(&["--state", "unknown"]) {
        let reason = each["reason"].as_str().unwrap();
        assert!(reason.starts_with("signed, but not answered"), "{each:#?}");
    }
    let checked = setup.cli(&["check"]);
    assert!(checked.contains("all invariants hold"), "{checked}");
    assert!(
        checked.contains("replication: no standby is connected"),
        "{checked}"
    );
}
