//! A rotation with several servers on one database: each is waited for, by what it reports itself.

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;

use crate::postgres::{another, with_database};

/// `rotate` against one of the servers.
pub(crate) fn rotate(
    setup: &TestServer,
    server: &RunningServer,
    arguments: &[&str],
) -> Result<Value, String> {
    let admin = format!("http://127.0.0.1:{}", server.admin);
    let file = setup.path("operator.token").display().to_string();
    let access = [
        "--trust-domain",
        TD,
        "--admin",
        &admin,
        "--credential-file",
        &file,
    ];
    let output = setup.try_cli(&[&["rotate"], arguments, &access, &["-o", "json"]].concat());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// Moves as soon as nothing holds it back; returns the phase.
pub(crate) async fn advance(setup: &TestServer, server: &RunningServer) -> String {
    let mut phase = None;
    eventually(PATIENCE, "the rotation's next move", async || {
        let moved = rotate(setup, server, &["advance"]);
        phase = moved
            .ok()
            .map(|moved| moved["phase"].as_str().unwrap().to_owned());
        phase.is_some()
    })
    .await;
    phase.unwrap()
}

/// A server that says nothing is waited for by name, one that lags too, and one that died is not once its
/// lease has ended. The reports are in the ledger: what an older server says is written there.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_waited_for() {
    let database = PostgresServer::shared();
    let name = database.database();
    let setup = with_database(database, &name);
    let one = setup.serve().await;
    let two = another(&setup, "test-1", "1h").await;
    // It dies with a lease of some seconds.
    let mut three = another(&setup, "test-2", "5s").await;
    three.kill();

    // One of an older version, which reports nothing.
    database.psql(
        &name,
        "INSERT INTO instance (name, boot, lease, lease_until)
         VALUES ('older', 1, 3600, extract(epoch FROM now())::bigint + 3600)",
    );
    rotate(&setup, &one, &["start", "--kind", "new-issuer"]).unwrap();
    assert_eq!(advance(&setup, &one).await, "publish");
    let silent = "server older: it has not reported what it serves; it counts until its lease ends";
    let refused = rotate(&setup, &one, &["advance"]).unwrap_err();
    assert!(refused.contains(silent), "{refused}");
    let explained = rotate(&setup, &one, &["explain"]).unwrap();
    let held = explained["held"].as_array().unwrap();
    let named = held.iter().find(|each| each["what"] == "server older");
    assert_eq!(named.unwrap()["condition"], "server");

    // It has learned to report.
    database.psql(
        &name,
        "INSERT INTO server_report
            (instance, authority, boot, sequence, digest, issuer, details, reported_at)
         SELECT 'older', authority, 1, sequence, digest, issuer, '{}', reported_at
         FROM server_report WHERE instance = 'test-0'",
    );
    for phase in ["converge", "activate"] {
        assert_eq!(advance(&setup, &one).await, phase);
    }
    // It signs under the issuing CA that leaves.
    let lags = "server older: it does not sign under the issuing CA that stays yet";
    eventually(PATIENCE, "it alone is waited for", async || {
        let refused = rotate(&setup, &one, &["advance"]).unwrap_err();
        refused.contains(lags) && !refused.contains("server test-")
    })
    .await;
    database.psql(
        &name,
        "UPDATE instance SET lease_until = 0 WHERE name = 'older'",
    );
    // Either of them moves it.
    assert_eq!(advance(&setup, &two).await, "drain");
    let status = rotate(&setup, &one, &["status"]).unwrap();
    let new = status[0]["new_issuer"].as_str().unwrap().to_owned();
    for server in [&one, &two] {
        let token = setup.issuer.istio("shop", "web");
        let csr = KeyAndCsr::workload("shop", "web");
        server.client(TD).await.istio(&token, &csr).await.unwrap();
    }
    let leaves = setup.certificates(&["--issuer", &new, "--kind", "leaf", "--state", "issued"]);
    let by = |name: &str| leaves.iter().any(|row| row["instance"]["name"] == name);
    assert!(by("test-0") && by("test-1"), "{leaves:?}");
    one.stop().await;
    two.stop().await;
}
