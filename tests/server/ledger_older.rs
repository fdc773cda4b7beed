//! An older ledger, or another one, is put in the place of the newest: the server does not start with it,
//! unless that is accepted, which is recorded; the sequence of a bundle never goes down.

use std::fs;
use std::path::Path;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;

pub(crate) const ACCEPT: [&str; 4] = [
    "serve",
    "--accept-older-ledger",
    "--reason",
    "the disk is gone",
];

async fn issue(setup: &TestServer, server: &RunningServer) {
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let client = server.client(TD).await;
    client.istio(&token, &csr).await.unwrap();
}

async fn sequence(server: &RunningServer) -> f64 {
    let name = format!("rootbridge_bundle_sequence{{trust_domain=\"{TD}\"}}");
    let mut found = None;
    eventually(PATIENCE, "a sequence", async || {
        found = server.metric(&name).await;
        found.is_some()
    })
    .await;
    found.unwrap()
}

fn mark(setup: &TestServer) -> Value {
    let text = fs::read_to_string(setup.path("high-water/test-0.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["reached"].clone()
}

/// Replaces the ledger of a server that does not run.
pub(crate) fn replace(setup: &TestServer, by: Option<&Path>) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(setup.path(&format!("ledger.db{end}")));
    }
    if let Some(by) = by {
        fs::copy(by, setup.path("ledger.db")).unwrap();
    }
}

/// The start must fail; a server that starts would not end by itself.
pub(crate) fn refuses_to_start(setup: &TestServer) -> String {
    start_fails(setup, 5)
}

/// The same with another exit code: what is written to standard error, in one line.
pub(crate) fn start_fails(setup: &TestServer, code: i32) -> String {
    let mut command = std::process::Command::new("timeout");
    let inner = setup.command(&["serve"]);
    command.args(["-s", "KILL", "60"]).arg(inner.get_program());
    command
        .arg("serve")
        .env("ROOTBRIDGE_CONFIG", setup.config());
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_ledger_is_refused_unless_it_is_accepted() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    issue(&setup, &server).await;
    let (old, copied) = (setup.path("old.db"), setup.path("copied.db"));
    let made = setup.cli(&["ledger", "backup", old.to_str().unwrap(), "-o", "json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let held = made["reached"]["intent"].as_u64().unwrap();
    let held = format!("intent {held}, outcome {held},");
    // What `cp` makes of the file of a running server lacks what is in its -wal file.
    fs::copy(setup.path("ledger.db"), &copied).unwrap();
    let foreign = OpensslCa::new(&setup.path(""), "foreign").pem_file();
    let foreign = foreign.to_str().unwrap();
    setup.cli(&[
        "anchors",
        "add",
        "--trust-domain",
        TD,
        "--source",
        "old mesh",
        foreign,
    ]);
    issue(&setup, &server).await;
    eventually(
        PATIENCE,
        "the mark follows the running server",
        async || mark(&setup)["bundles"][TD] == 2,
    )
    .await;
    issue(&setup, &server).await;
    server.stop().await;
    // Written at the stop, whatever time has passed.
    let newest = mark(&setup);
    let recorded = setup.certificates(&[]).len();
    assert_eq!(newest["intent"], recorded, "{newest}");
    assert_eq!(newest["concluded"], recorded, "{newest}");

    let verify = |file: &Path| setup.try_cli(&["ledger", "verify", file.to_str().unwrap()]);
    let said = |output: std::process::Output| {
        let all = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&all).into_owned();
        (
            output.status.code(),
            text.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    };
    let (code, text) = said(verify(&old));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("is whole: {held}")), "{text}");
    let gone_on = format!("the server has gone on to intent {recorded}");
    assert!(text.contains(&gone_on), "{text}");
    let (code, text) = said(verify(&copied));
    assert_eq!(code, Some(5), "{text}");
    assert!(
        text.contains("without the records of its -wal file"),
        "{text}"
    );

    replace(&setup, Some(&old));
    let error = refuses_to_start(&setup);
    let ends = format!("is not the newest: it ends at {held}");
    assert!(error.contains(&ends), "{error}");
    assert!(error.contains("--accept-older-ledger"), "{error}");
    let (code, text) = said(setup.try_cli(&["check", "-o", "short"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the ledger is not the newest"), "{text}");
    assert_eq!(mark(&setup), newest, "a refused start leaves the mark");

    let server = setup.start_with(setup.command(&ACCEPT)).await;
    server.ready().await;
    assert_eq!(sequence(&server).await, 3.0, "above the lost bundle 2");
    server.wait_for_log("THE LEDGER IS NOT THE NEWEST").await;
    issue(&setup, &server).await;
    server.stop().await;
    let actions = crate::ceremonies::query(
        &setup,
        "SELECT target || ': ' || detail FROM operator_action WHERE action = 'accept-older-ledger'",
    );
    let begins = format!("test-0: the disk is gone (this ledger: {held}");
    let lost = format!("lost: up to intent {recorded}");
    assert!(
        actions.starts_with(&begins) && actions.contains(&lost),
        "{actions}"
    );
    // From here on this is the ledger.
    setup.serve().await.stop().await;
    // And the one that was lost is another: it has gone the other way.
    let newest = mark(&setup);
    assert_eq!(newest["bundles"][TD], 3, "{newest}");

    replace(&setup, None);
    let error = refuses_to_start(&setup);
    assert!(error.contains("it ends at intent 0"), "{error}");
    let server = setup.start_with(setup.command(&ACCEPT)).await;
    setup.init(TD, &[]);
    server.ready().await;
    assert_eq!(sequence(&server).await, 4.0, "also of a new authority");
    server.stop().await;
}

/// A ledger that is as long, and was written by another server.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_with_another_history_is_refused() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let old = setup.path("old.db");
    setup.cli(&["ledger", "backup", old.to_str().unwrap()]);
    issue(&setup, &server).await;
    server.stop().await;
    let (mark, aside) = (setup.path("high-water/test-0.json"), setup.path("aside"));
    fs::rename(&mark, &aside).unwrap();
    replace(&setup, Some(&old));
    // The token's mark is there still.
    let server = setup.start_with(setup.command(&ACCEPT)).await;
    server.ready().await;
    issue(&setup, &server).await;
    issue(&setup, &server).await;
    server.stop().await;
    fs::rename(&aside, &mark).unwrap();
    let error = refuses_to_start(&setup);
    assert!(error.contains("it holds another intent "), "{error}");
    // A mark that cannot be read is no mark that is passed over.
    fs::write(&mark, "{").unwrap();
    let error = refuses_to_start(&setup);
    assert!(
        error.contains("cannot be read") && error.contains("test-0.json"),
        "{error}"
    );
}
