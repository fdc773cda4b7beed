//! The life of an issuing CA: renewed in time, with a new key, and never in the way of issuance.

use std::time::Duration;

use rootbridge_test_support::{PATIENCE, RunningServer, TestServer, eventually};

use crate::authority::{approve, configure, issue, issuers, wait_for_state};
use crate::command::Program;
use crate::enterprise::Enterprise;

/// Certificates that fit an issuing CA of half a minute.
pub fn shorten_profiles(setup: &TestServer) {
    for (from, to) in [
        ("default_ttl = \"24h\"", "default_ttl = \"10s\""),
        ("backdate = \"2m\"", "backdate = \"1s\""),
        // Of the listener's own certificate.
        (
            "[istio]",
            "[profiles.serving]\ndefault_ttl = \"10s\"\nbackdate = \"1s\"\n\n[istio]",
        ),
        // Profiles that live a day.
        (
            "[\"short\", \"gold\", \"workload\"]",
            "[\"short\", \"workload\"]",
        ),
        (
            "[\"workload\", \"short\", \"ignore\"]",
            "[\"workload\", \"short\"]",
        ),
    ] {
        setup.edit(from, to);
    }
}

/// With a new key each time; the certificates that were issued go on to verify.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuing_ca_is_renewed_in_time_while_workloads_are_served() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.certificates_live(24);
    configure(&setup, &ca, &Program, "ttl = \"30s\"").await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;
    let serving = async |server: &RunningServer, count: usize| {
        let what = format!("{count} issuing CAs, and a certificate at every moment");
        eventually(PATIENCE * 4, &what, async || {
            issue(&setup, server).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let issuers = issuers(&setup);
            let used = issuers.iter().filter(|issuer| issuer["state"] != "pending");
            used.count() >= count
        })
        .await;
    };
    serving(&server, 3).await;
    let keys: Vec<serde_json::Value> =
        serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    let unrecorded: Vec<_> = keys.iter().filter(|key| key["use"].is_null()).collect();
    assert!(unrecorded.is_empty(), "{unrecorded:?}");
    assert_eq!(
        ca.submissions(),
        issuers(&setup).len(),
        "one request for each key"
    );
    server.stop().await;
}
