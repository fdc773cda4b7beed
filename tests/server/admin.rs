//! The admin port.

use reqwest::Method;
use serde_json::Value;
use tonic::metadata::MetadataMap;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request, sign_request};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_are_open_and_name_no_workload() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("secret-namespace", "secret-account");
    let csr = KeyAndCsr::workload("secret-namespace", "secret-account");
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
        .admin_request(Method::GET, "/v1/status", Some(&setup.operator))
        .await;
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["ready"], true);
    assert_eq!(page["authorities"][0]["trust_domain"], TD);
    server.stop().await;
}

/// Failed authentications are counted by API and reason, and by nothing that the caller chooses.
#[tokio::test(flavor = "multi_thread")]
async fn refused_callers_are_counted() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let counted = async |api: &str, reason: &str| {
        let labels = format!("listener=\"mesh\",api=\"{api}\",cluster=\"\",reason=\"{reason}\"");
        let name = format!("rootbridge_authentications_refused_total{{{labels}}}");
        server.metric(&name).await.unwrap_or_default()
    };
    let body = || istio_request(&csr.pem, 0, &[]);
    client.create(body(), MetadataMap::new()).await.unwrap_err();
    for token in ["nonsense", "a.b.c", &setup.issuer.own("foo", "bar")] {
        client.istio(token, &csr).await.unwrap_err();
    }
    let mut twice = bearer(&setup.issuer.istio("foo", "bar"));
    twice.append("authorization", "Bearer x".parse().unwrap());
    client.create(body(), twice).await.unwrap_err();
    for token in [&setup.issuer.istio("foo", "bar"), &setup.other_operator] {
        client
            .sign(token, sign_request(&csr, "workload", &[]))
            .await
            .unwrap_err();
    }
    assert_eq!(counted("istio", "missing").await, 1.0);
    assert_eq!(counted("istio", "rejected").await, 4.0);
    assert_eq!(counted("certificates", "rejected").await, 2.0);

    // Neither denied nor accepted callers count as failed authentications.
    let token = setup.issuer.istio("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    let other = KeyAndCsr::workload("foo", "other");
    client.istio(&token, &other).await.unwrap_err();
    let (_, page) = server.get("/metrics").await;
    let count = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    let refused = "rootbridge_authentications_refused_total";
    let lines = page.lines().filter(|line| line.starts_with(refused));
    let (zero, counted): (Vec<_>, Vec<_>) = lines.partition(|line| line.ends_with(" 0"));
    assert_eq!(counted.len(), 3, "{counted:?}");
    // Two APIs with five reasons each begin at 0.
    assert_eq!(zero.len(), 2 * 5 - 3, "{zero:?}");
    assert_eq!(
        count("rootbridge_certificates_refused_total{cause=\"denied\"} 1"),
        1
    );
    server.metrics_are_listed().await;
    server.stop().await;
}

/// What is not ready is said to anybody in words that hold no path and no token.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_reported_with_care() {
    let setup = TestServer::new();
    setup.edit("label = \"rootbridge\"", "label = \"gone\"");
    let server = setup.start().await;
    let (mut status, mut message) = (200, String::new());
    eventually(PATIENCE, "the reason", async || {
        (status, message) = server.get("/readyz").await;
        message.contains("issuing key")
    })
    .await;
    assert_eq!(status, 503);
    assert!(
        !message.contains("gone") && !message.contains("/tmp"),
        "{message}"
    );
    let (_, page) = server
        .admin_request(Method::GET, "/v1/status", Some(&setup.operator))
        .await;
    assert!(page.contains("gone"), "the operator sees more: {page}");
    server.stop().await;
}
