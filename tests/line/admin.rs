//! The admin port.

use reqwest::Method;
use serde_json::Value;

use crate::support::request::Request;
use crate::support::{Line, PATIENCE, TD, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_are_open_and_name_no_workload() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let token = line.issuer.istio("secret-namespace", "secret-account");
    let csr = Request::workload("secret-namespace", "secret-account");
    client.istio(&token, &csr).await.unwrap();
    client.istio("nonsense", &csr).await.unwrap_err();

    assert_eq!(server.get("/livez").await, (200, "live\n".to_owned()));
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    // Found by the prober, in its own time.
    let up = "rootbridge_hsm_up{token=\"main\"}";
    eventually(PATIENCE, up, async || server.metric(up).await == Some(1.0)).await;
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "rootbridge_certificates_issued_total{trust_domain=\"cluster.local\",method=\"jwt\"} 1",
        "rootbridge_hsm_up{token=\"main\"} 1",
        "rootbridge_ledger_up 1",
        "rootbridge_issuer_ready{trust_domain=\"cluster.local\"} 1",
        "rootbridge_bundle_sequence{trust_domain=\"cluster.local\"} 1",
        "rootbridge_sign_duration_seconds_count",
    ] {
        assert!(metrics.contains(name), "no {name} in:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert!(
        !metrics.contains("spiffe://") && !metrics.contains("secret-"),
        "{metrics}"
    );
    assert!(!metrics.contains("/tmp"), "{metrics}");

    let (status, page) = server
        .ask(Method::GET, "/v1/status", Some(&line.operator))
        .await;
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["ready"], true);
    assert_eq!(page["authorities"][0]["trust_domain"], TD);
    server.stop().await;
}

/// What is not ready is said to anybody in words that hold no path and no token.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_with_care() {
    let line = Line::new();
    line.edit("label = \"rootbridge\"", "label = \"gone\"");
    let server = line.start().await;
    let (mut status, mut said) = (200, String::new());
    eventually(PATIENCE, "the reason", async || {
        (status, said) = server.get("/readyz").await;
        said.contains("issuing key")
    })
    .await;
    assert_eq!(status, 503);
    assert!(!said.contains("gone") && !said.contains("/tmp"), "{said}");
    let (_, page) = server
        .ask(Method::GET, "/v1/status", Some(&line.operator))
        .await;
    assert!(page.contains("gone"), "the operator is told more: {page}");
    server.stop().await;
}
