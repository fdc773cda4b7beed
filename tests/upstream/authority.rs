//! A server with an upstream CA.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;

use crate::command;
use crate::enterprise::Enterprise;

/// Adds the sections of an upstream CA that a program asks every second.
pub async fn configure(setup: &TestServer, ca: &Arc<Enterprise>, authority: &str) {
    let section = command::section(&setup.path(""), ca).await;
    configure_section(setup, &section, "20s", authority);
}

/// The same with the keys of `[upstream.corp]`, in lines.
pub fn configure_section(setup: &TestServer, section: &str, timeout: &str, authority: &str) {
    let text = format!(
        "{}\n[upstream.corp]\n{section}timeout = \"{timeout}\"\npoll = \"1s\"\nlongest_poll = \"1s\"\n\
         after_refusal = \"1s\"\n\n[authority.\"{TD}\"]\nupstream = \"corp\"\n{authority}\n",
        fs::read_to_string(setup.config()).unwrap()
    );
    fs::write(setup.config(), text).unwrap();
}

/// The authority's part of `/v1/status`.
pub async fn status(setup: &TestServer, server: &RunningServer) -> Value {
    let credential = Some(setup.operator.as_str());
    let (code, text) = server
        .admin_request(Method::GET, "/v1/status", credential)
        .await;
    assert_eq!(code, 200, "{text}");
    let status: Value = serde_json::from_str(&text).unwrap();
    status["upstream"][0].clone()
}

/// Waits until the request in flight is in this state, and returns it.
pub async fn wait_for_state(setup: &TestServer, server: &RunningServer, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let request = status(setup, server).await["request"].clone();
        if request["state"] == state {
            return request;
        }
        let waited = start.elapsed();
        assert!(
            waited < PATIENCE,
            "not {state} within {PATIENCE:?}: {request}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the request in flight has a problem that says so.
pub async fn wait_for_problem(setup: &TestServer, server: &RunningServer, says: &str) {
    eventually(PATIENCE, says, async || {
        let status = status(setup, server).await;
        let problem = status["request"]["problem"].as_str().unwrap_or_default();
        problem.contains(says)
    })
    .await;
}

/// Lets the certificates below the root be used.
pub fn approve(setup: &TestServer, ca: &Enterprise) {
    setup.cli(&["anchors", "approve", &fingerprint(&ca.root.pem())]);
    let roots = setup.path(&format!("{TD}.pem"));
    fs::write(roots, ca.root.pem()).unwrap();
}

pub fn fingerprint(pem: &str) -> String {
    let certificate = rootbridge::x509::parse_pem_chain(pem.as_bytes())
        .unwrap()
        .remove(0);
    let bytes = certificate.fingerprint();
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(":")
}

/// A workload gets a certificate; returns the subjects above it.
pub async fn issue(setup: &TestServer, server: &RunningServer) -> Vec<String> {
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = server.client(TD).await.istio(&token, &csr).await.unwrap();
    assert_eq!(chain.names(), ["spiffe://cluster.local/ns/shop/sa/cart"]);
    chain.above.iter().map(|each| each.subject()).collect()
}

/// What `ca list` shows.
pub fn issuers(setup: &TestServer) -> Vec<Value> {
    serde_json::from_str(&setup.cli(&["ca", "list", "-o", "json"])).unwrap()
}

/// Adds the sections; what `upstream test` says of them.
pub fn upstream_test(setup: &TestServer, section: &str, authority: &str) -> String {
    configure_section(setup, section, "60s", authority);
    setup.cli(&["upstream", "test", "corp"])
}

/// From the first request to a workload's certificate, below a CA that is called so.
pub async fn certify_and_serve(setup: &TestServer, root: &str, name: &str) {
    let server = setup.start().await;
    wait_for_state(setup, &server, "received").await;
    setup.cli(&["anchors", "approve", &fingerprint(root)]);
    fs::write(setup.path(&format!("{TD}.pem")), root).unwrap();
    server.ready().await;
    let above = issue(setup, &server).await;
    assert!(above[0].contains(name), "{above:?}");
    server.stop().await;
}
