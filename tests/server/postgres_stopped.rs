//! One of two servers is stopped (SIGSTOP) in the middle of what it alone does, for longer than its lease,
//! and goes on: what the other has concluded meanwhile stays, and nothing of it is released.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::Method;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;
use tonic::Code;

use crate::postgres::{another, with_database};

/// The trust domain whose issuing CA an upstream CA certifies.
const RENEWED: &str = "renewed.example";

/// An upstream CA that decides later. Asked for the first time, it answers only once it may.
const PROGRAM: &str = r#"#!/bin/sh
cat >/dev/null
if mkdir "$DIRECTORY/asked" 2>/dev/null; then
    while [ ! -e "$DIRECTORY/may-answer" ]; do sleep 0.05; done
    echo answer-to-the-stopped
    : >"$DIRECTORY/answered"
else
    echo "${ROOTBRIDGE_REFERENCE:-answer-to-the-other}"
fi
exit 75
"#;

async fn status(setup: &TestServer, server: &RunningServer) -> Value {
    let credential = Some(setup.operator.as_str());
    let (code, text) = server
        .admin_request(Method::GET, "/v1/status", credential)
        .await;
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_stopped_concludes_nothing_that_another_has() {
    let database = PostgresServer::shared();
    let name = database.database();
    let setup = with_database(database, &name);
    let fault = setup.use_faulty_module();
    // Long enough that a slow machine keeps it.
    setup.edit("lease = \"5s\"", "lease = \"10s\"");
    // The answer to the caller is to fail because of the ledger, not because of the time.
    setup.edit("deadline = \"5s\"", "deadline = \"10m\"");
    let (program, directory) = (setup.path("upstream-ca"), setup.path(""));
    let text = PROGRAM.replace("$DIRECTORY", &directory.display().to_string());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = fs::read_to_string(setup.config()).unwrap();
    let upstream = format!(
        "{config}\n[upstream.corp]\nkind = \"command\"\nprogram = \"{}\"\ntimeout = \"10m\"\n\
         poll = \"1s\"\nlongest_poll = \"1s\"\n\n[authority.\"{RENEWED}\"]\nupstream = \"corp\"\n",
        program.display()
    );
    fs::write(setup.config(), upstream).unwrap();

    // One asks the upstream CA, and signs a certificate.
    let one = setup.serve().await;
    let work = "upstream";
    let held = format!("rootbridge_work_held{{work=\"{work}\"}}");
    eventually(PATIENCE, "the upstream CA is asked", async || {
        setup.path("asked").exists()
    })
    .await;
    assert_eq!(status(&setup, &one).await["work"][0], work);
    assert_eq!(one.metric(&held).await, Some(1.0));
    let two = another(&setup, "test-1", "10s").await;
    two.wait_for_log("another server does this work").await;
    assert_eq!(two.metric(&held).await, None);
    let client = one.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    fault("sign_ms 600000");
    let call = tokio::spawn(async move { client.istio(&token, &csr).await });
    let intents = |state: &str| {
        let of_caller = "subject LIKE '%/ns/foo/sa/bar'";
        let sql = match state {
            "open" => format!(
                "SELECT count(*) FROM intent WHERE {of_caller} AND NOT EXISTS
                    (SELECT 1 FROM conclusion WHERE intent = intent.id)"
            ),
            _ => format!(
                "SELECT count(*) FROM conclusion JOIN intent ON intent.id = intent
                    WHERE {of_caller} AND state = 3 AND signature IS NULL"
            ),
        };
        database.psql(&name, &sql)
    };
    eventually(PATIENCE, "the intent is on record", async || {
        intents("open") == "1"
    })
    .await;

    // It is stopped. The other takes its work over, and concludes what it left open.
    one.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    fault("");
    let reference = || {
        let sql = "SELECT coalesce(reference, '') FROM ca_request";
        database.psql(&name, sql)
    };
    eventually(PATIENCE, "the other asks the upstream CA", async || {
        reference() == "answer-to-the-other"
    })
    .await;
    eventually(PATIENCE, "the other reconciles", async || {
        intents("unknown") == "1"
    })
    .await;
    assert_eq!(two.metric(&held).await, Some(1.0));
    let at_least = Duration::from_secs(rounds(0, 60) as u64);
    eventually(PATIENCE + at_least, "it was stopped for long", async || {
        stopped.elapsed() >= at_least
    })
    .await;

    // It goes on: with a signature, and with an answer of the upstream CA.
    one.signal(Signal::SIGCONT);
    fs::write(setup.path("may-answer"), "").unwrap();
    refusal(call.await.unwrap(), Code::Unavailable);
    assert_eq!(intents("unknown"), "1");
    eventually(
        PATIENCE,
        "the answer to the stopped one comes",
        async || setup.path("answered").exists(),
    )
    .await;
    one.wait_for_log("upstream.overtaken").await;
    one.wait_for_log("another server has taken this work over")
        .await;
    assert_eq!(reference(), "answer-to-the-other");
    assert_eq!(one.metric(&held).await, None);

    // An orderly end gives the work back at once; the certificate is issued to the next who asks.
    two.stop_in_order().await;
    eventually(PATIENCE, "the work is taken back", async || {
        one.metric(&held).await == Some(1.0)
    })
    .await;
    assert_eq!(reference(), "answer-to-the-other");
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    one.client(TD).await.istio(&token, &csr).await.unwrap();
    one.stop_in_order().await;
    // The authority that is renewed has no CA yet, which is a failure of its own.
    let checked = setup.try_cli(&["check"]);
    let checked = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.contains("all invariants hold"), "{checked}");
}
