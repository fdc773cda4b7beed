//! Signatures that are wrong, lost or never answered: nothing is released, and the record says what is
//! certain.

use rootbridge::mesh::proto::rootbridge_v1::SignCertificateRequest;
use serde_json::Value;
use tonic::Code;

use crate::ceremonies::{both_active, sql};
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

/// The token signs, and the last bit of the signature is wrong.
const SPOIL: &str = "spoil 0\n";
/// CKR_DEVICE_ERROR after the token has signed.
const LOSE: &str = "lost_rv 48\n";
/// CKR_DATA_INVALID, before the token signs.
const REFUSE: &str = "sign_rv 32\n";

/// The command, but not for self-tests: after a failure one is made, and whether it comes before or
/// after the next call would decide what that call meets.
fn but_self_tests(command: &str) -> String {
    const MESSAGE: &[u8] = b"rootbridge HSM self-test: this is not a certificate";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, MESSAGE);
    let first = digest.as_ref().first_chunk().unwrap();
    format!("spare {}\n{command}", u32::from_be_bytes(*first))
}

fn keyed(csr: &KeyAndCsr, key: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        idempotency_key: key.to_owned(),
        ..sign_request(csr, "workload", &[&id("foo", "bar")])
    }
}

/// A CA whose server makes no self-tests during a test, so that a command meets only what the test
/// signs.
fn without_self_tests() -> TestServer {
    TestServer::with(&[("probe_interval = \"500ms\"", "probe_interval = \"1h\"")])
}

/// The records of a kind in a state.
fn records(setup: &TestServer, kind: &str, state: &str) -> Vec<Value> {
    setup.certificates(&["--kind", kind, "--state", state])
}

/// Asserts that the only record of a kind that is not issued is in `state`; returns its reason.
fn only_record(setup: &TestServer, kind: &str, state: &str) -> String {
    for other in ["pending", "failed", "unknown"] {
        let found = records(setup, kind, other);
        assert_eq!(
            found.len(),
            usize::from(other == state),
            "{other}: {found:#?}"
        );
    }
    let found = records(setup, kind, state).remove(0);
    found["reason"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_with_a_wrong_signature_is_not_released() {
    let setup = without_self_tests();
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    let issued = records(&setup, "leaf", "issued").len();
    command(&but_self_tests(SPOIL));
    let request = keyed(&csr, "spoiled");
    refusal(
        client.sign(&setup.operator, request.clone()).await,
        Code::Internal,
    );
    server
        .wait_for_log("the HSM's signature failed its check")
        .await;
    let reason = only_record(&setup, "leaf", "unknown");
    assert!(reason.contains("signature"), "{reason}");
    assert_eq!(records(&setup, "leaf", "issued").len(), issued);

    command("");
    server.ready().await;
    let answer = client.sign(&setup.operator, request).await.unwrap();
    let row = setup.certificates(&["--serial", &answer.serial_number]);
    assert_eq!((row.len(), &row[0]["state"]), (1, &Value::from("issued")));
    assert_eq!(records(&setup, "leaf", "unknown").len(), 0);
    server.stop().await;
}

#[test]
fn a_ca_certificate_with_a_wrong_signature_is_not_used() {
    let setup = TestServer::bare();
    let command = setup.use_faulty_module();
    command(SPOIL);
    let message = setup.refused(&["ca", "init", "--trust-domain", TD]);
    assert!(message.contains("signature"), "{message}");
    let reason = only_record(&setup, "ca", "unknown");
    assert!(reason.contains("signature"), "{reason}");
    assert_eq!(records(&setup, "ca", "issued").len(), 0);
    let issuers = setup.cli(&["ca", "list", "-o", "json"]);
    let issuers: Vec<Value> = serde_json::from_str(&issuers).unwrap();
    assert!(!issuers.is_empty());
    assert!(
        issuers.iter().all(|issuer| issuer["state"] == "pending"),
        "{issuers:#?}"
    );
    let anchors = setup.cli(&["anchors", "list", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<Vec<Value>>(&anchors).unwrap().len(),
        0
    );

    command("");
    setup.init(TD, &[]);
    both_active(&setup);
}

#[test]
fn a_certification_request_with_a_wrong_signature_is_not_printed() {
    let setup = TestServer::bare();
    let command = setup.use_faulty_module();
    command(SPOIL);
    let output = setup.try_cli(&["ca", "request", "--trust-domain", TD]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && printed.is_empty(), "{printed}");
    let reason = only_record(&setup, "request", "unknown");
    assert!(reason.contains("signature"), "{reason}");
    assert_eq!(records(&setup, "request", "issued").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_signed_is_unknown_and_what_is_not_is_failed() {
    let setup = without_self_tests();
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    let request = keyed(&csr, "lost");
    command(&but_self_tests(REFUSE));
    refusal(
        client.sign(&setup.operator, request.clone()).await,
        Code::Internal,
    );
    let reason = only_record(&setup, "leaf", "failed");
    assert!(reason.contains("CKR_DATA_INVALID"), "{reason}");

    // The same bytes again: `failed` would be wrong as soon as the token is called.
    command(&but_self_tests(LOSE));
    server.ready().await;
    refusal(
        client.sign(&setup.operator, request.clone()).await,
        Code::Unavailable,
    );
    only_record(&setup, "leaf", "unknown");

    command("");
    eventually(PATIENCE, "the token signs again", async || {
        client.sign(&setup.operator, request.clone()).await.is_ok()
    })
    .await;
    assert_eq!(records(&setup, "leaf", "unknown").len(), 0);

    command(&but_self_tests(LOSE));
    refusal(
        client.sign(&setup.operator, keyed(&csr, "")).await,
        Code::Unavailable,
    );
    let reason = only_record(&setup, "leaf", "unknown");
    assert!(reason.contains("CKR_DEVICE_ERROR"), "{reason}");
    command("");
    server.stop().await;
}

/// The ledger fails after the signature: the caller gets no certificate, so none is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_answered_is_not_recorded_as_issued() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    // An error at run time counts as an outage, unlike a constraint.
    sql(
        &setup,
        "CREATE TRIGGER outage BEFORE INSERT ON conclusion
         BEGIN SELECT abs(-9223372036854775807 - 1); END",
    );
    let request = keyed(&csr, "unanswered");
    refusal(
        client.sign(&setup.operator, request.clone()).await,
        Code::Unavailable,
    );
    sql(&setup, "DROP TRIGGER outage");
    eventually(PATIENCE, "its outcome is recorded", async || {
        records(&setup, "leaf", "pending").is_empty()
    })
    .await;
    let reason = only_record(&setup, "leaf", "unknown");
    assert!(reason.contains("signed, but not answered"), "{reason}");

    eventually(PATIENCE, "the ledger is available", async || {
        client.sign(&setup.operator, request.clone()).await.is_ok()
    })
    .await;
    assert_eq!(records(&setup, "leaf", "unknown").len(), 0);
    server.stop().await;
}

/// Another process has registered under the server's name: its records would be reconciled.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_epoch_is_lost_registers_again() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    sql(
        &setup,
        "UPDATE instance SET boot = boot + 1 WHERE name = 'test-0'",
    );
    server
        .wait_for_log("the ledger is available again: a new epoch starts")
        .await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    eventually(PATIENCE, "it signs", async || {
        client.sign(&setup.operator, keyed(&csr, "")).await.is_ok()
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_signs_leaves_an_unknown_outcome() {
    let setup = TestServer::new();
    setup.edit("deadline = \"5s\"", "deadline = \"10m\"");
    let command = setup.use_faulty_module();
    let mut server = setup.serve().await;
    for round in 0..rounds(2, 100) {
        let client = server.client(TD).await;
        command("sign_ms 600000\n");
        let request = keyed(&KeyAndCsr::new(&[]), &format!("killed-{round}"));
        let (operator, again) = (setup.operator.clone(), request.clone());
        let call = tokio::spawn(async move { client.sign(&operator, request).await });
        eventually(PATIENCE, "it is recorded", async || {
            records(&setup, "leaf", "pending").len() == 1
        })
        .await;
        server.kill();
        call.await.unwrap().unwrap_err();
        drop(server);
        command("");
        server = setup.serve().await;
        eventually(PATIENCE, "it is reconciled", async || {
            records(&setup, "leaf", "pending").is_empty()
        })
        .await;
        let reason = only_record(&setup, "leaf", "unknown");
        assert!(reason.contains("left open by epoch"), "{reason}");
        let client = server.client(TD).await;
        client.sign(&setup.operator, again).await.unwrap();
        assert_eq!(records(&setup, "leaf", "unknown").len(), 0);
    }
    server.stop().await;
}

/// No thread that hangs in the module comes back: the token says so, what needs no token goes on, and the
/// process ends only where it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_hangs_for_good_is_left_to_the_supervisor() {
    let setup = TestServer::new();
    setup.edit("deadline = \"5s\"", "deadline = \"1s\"");
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    command("hang 1000\n");
    server
        .wait_for_log("hang in the PKCS#11 module, and no more are started")
        .await;
    let hanging = server.metric("rootbridge_hsm_hanging_threads{token=\"main\"}");
    assert!(hanging.await.unwrap() >= 1.0);
    let client = server.client(TD).await;
    let request = keyed(&KeyAndCsr::new(&[]), "");
    refusal(
        client.sign(&setup.operator, request).await,
        Code::Unavailable,
    );
    assert_eq!(server.get("/readyz").await.0, 200);
    server.stop().await;

    command("");
    setup.edit(
        "deadline = \"1s\"",
        "deadline = \"1s\"\nexit_when_stuck = true",
    );
    let mut server = setup.serve().await;
    command("hang 1000\n");
    let status = server.wait_exit(PATIENCE).await;
    assert!(!status.success());
    let log = server.log();
    assert!(log.contains("(hsm.exit_when_stuck)"), "{log}");
}
