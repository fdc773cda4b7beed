//! What one server or command changes is active on the other servers, with and without notifications.

use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::grpc::https;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

use crate::postgres::{another, with_database};

/// How many roots a server publishes.
async fn roots(setup: &TestServer, server: &RunningServer) -> usize {
    let url = format!("https://localhost:{}/v1/trust-bundles/{TD}", server.port());
    let answer = https(&setup.roots(TD)).get(url).send().await.unwrap();
    let pem = answer.text().await.unwrap();
    parse_pem_chain(pem.as_bytes()).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_active_on_every_server() {
    let database = PostgresServer::shared();
    let name = database.database();
    let setup = with_database(database, &name);
    let one = setup.serve().await;
    let two = another(&setup, "test-1", "1h").await;
    for server in [&one, &two] {
        // It has its certificate.
        server.client(TD).await;
        assert_eq!(roots(&setup, server).await, 1);
    }
    let listeners =
        "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE datname = current_database()
        AND (query LIKE 'LISTEN %' OR query = 'SELECT pg_listening_channels()')";
    eventually(PATIENCE, "both listen", async || {
        database.psql(&name, listeners) == "2"
    })
    .await;
    // The first change is notified; nothing is said of the second.
    for (n, cut) in [(2, ""), (3, "DROP TRIGGER revision_notify ON revision")] {
        database.psql(&name, cut);
        let foreign = OpensslCa::new(&setup.path(""), &format!("foreign-{n}"));
        let file = setup.path(&format!("foreign-{n}.pem"));
        std::fs::write(&file, foreign.pem()).unwrap();
        let file = file.display().to_string();
        let source = format!("mesh {n}");
        setup.cli(&[
            "anchors",
            "add",
            &file,
            "--trust-domain",
            TD,
            "--source",
            &source,
        ]);
        for server in [&one, &two] {
            eventually(PATIENCE, "it is active", async || {
                roots(&setup, server).await == n
            })
            .await;
        }
    }
    one.stop_in_order().await;
    two.stop_in_order().await;
}
