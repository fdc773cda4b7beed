//! What happens once in the life of an issuing CA: its key is certified again, it is retired, its server
//! dies at the wrong moment.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::under_load::every_key_is_recorded;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

use crate::authority::{approve, configure, issue, issuers, wait_for_problem, wait_for_state};
use crate::enterprise::{Behaviour, Enterprise};
use crate::renewal::{shorten_profiles, used};

/// A server with an issuing CA of an hour, and its clock, which is half an hour and more ahead from then
/// on: a renewal is due, and the CA answers it with what it has issued before. Nothing is issued after that, by clients with the real time.
async fn an_hour_later(authority: &str) -> (TestServer, RunningServer, FakeClock, Arc<Enterprise>) {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.certificates_live(3600);
    configure(&setup, &ca, &format!("ttl = \"1h\"\n{authority}")).await;
    let clock = FakeClock::new(&setup, "+0");
    let server = setup.start_with(clock.serve(&setup)).await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    ca.tell(Behaviour::Again);
    clock.move_to("+40m").await;
    (setup, server, clock, ca)
}

/// By the server, once its last certificate has expired, and without an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_issuing_ca_is_retired() {
    let (setup, server, clock, ca) = an_hour_later("").await;
    let says = "no authority here has the key";
    wait_for_problem(&setup, &server, says).await;
    ca.tell(Behaviour::Issue);
    eventually(PATIENCE * 4, "the renewal", async || used(&setup) == 2).await;
    clock.move_to("+45m").await;
    eventually(PATIENCE * 4, "the first one's end", async || {
        issuers(&setup)[0]["state"] == "retired"
    })
    .await;
    assert!(server.log().contains("upstream.retired"));
    assert_eq!(issuers(&setup)[1]["state"], "active");
    assert_eq!(server.get("/readyz").await.0, 200);
    server.stop().await;
}

/// No new key is made where `reuse_key` says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_certified_again() {
    let (setup, server, _clock, ca) = an_hour_later("reuse_key = true").await;
    let says = "is the certificate that the issuing key has already";
    wait_for_problem(&setup, &server, says).await;
    assert_eq!(server.log().matches("upstream.activated").count(), 1);
    ca.tell(Behaviour::Issue);
    eventually(PATIENCE * 4, "the second certificate", async || {
        server.log().matches("upstream.activated").count() == 2
    })
    .await;
    let listed = issuers(&setup);
    assert_eq!(listed.len(), 1, "one key: {listed:?}");
    assert_eq!(listed[0]["state"], "active");
    every_key_is_recorded(&setup);
    let keys: Vec<serde_json::Value> =
        serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(server.get("/readyz").await.0, 200);
    server.stop().await;
}

/// While the returned file is there, the program kills the server (kill -9) once it has the CA's decision.
fn dies_at_a_decision(setup: &TestServer) -> PathBuf {
    let (program, file) = (setup.path("ask-ca"), setup.path("die"));
    let text = fs::read_to_string(&program).unwrap();
    let before = "case $status in";
    let dies = format!(
        "case $status in 20?) rm '{}' 2>/dev/null && kill -9 $PPID ;; esac\n{before}",
        file.display()
    );
    assert!(text.contains(before), "{text}");
    fs::write(&program, text.replacen(before, &dies, 1)).unwrap();
    file
}

async fn dead(mut server: RunningServer) {
    eventually(PATIENCE * 4, "the server's death", async || {
        server.exited().is_some()
    })
    .await;
}

/// Between the submission and its record, between an answer and its record, and between an answer and
/// its activation: the CA is asked again, and one certificate is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_at_an_answer_asks_again() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.certificates_live(300);
    ca.tell(Behaviour::Down);
    configure(&setup, &ca, "ttl = \"300s\"\nrenew_at = \"10%\"").await;
    let die = dies_at_a_decision(&setup);
    let server = setup.start().await;
    let first = wait_for_state(&setup, &server, "submitted").await;
    fs::write(&die, "").unwrap();
    ca.tell(Behaviour::Pending);
    dead(server).await;

    let server = setup.start().await;
    let again = wait_for_state(&setup, &server, "pending").await;
    assert_eq!(again["request"], first["request"], "the same request");
    let sent = ca.submissions();
    ca.tell(Behaviour::Down);
    let calls = ca.calls().len();
    // The second of them began after the change.
    eventually(PATIENCE * 4, "two polls", async || {
        ca.calls().len() >= calls + 2
    })
    .await;
    fs::write(&die, "").unwrap();
    ca.tell(Behaviour::Issue);
    dead(server).await;
    assert_eq!(used(&setup), 0);

    let server = setup.start().await;
    let received = wait_for_state(&setup, &server, "received").await;
    assert_eq!(received["request"], first["request"], "the same request");
    assert_eq!(ca.submissions(), sent, "asked by its reference");
    assert_eq!(issuers(&setup).len(), 1, "one key");
    fs::write(&die, "").unwrap();
    approve(&setup, &ca);
    // The next answer is that to the renewal, below a root that is approved.
    dead(server).await;
    assert_eq!(used(&setup), 1, "the answer was not activated");

    let server = setup.serve().await;
    eventually(PATIENCE * 4, "the renewal", async || used(&setup) >= 2).await;
    every_key_is_recorded(&setup);
    // A server that has just started answers before its keys are open.
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    eventually(PATIENCE * 4, "a certificate", async || {
        let client = server.client(TD).await;
        client.istio(&token, &csr).await.is_ok()
    })
    .await;
    server.stop().await;
}
