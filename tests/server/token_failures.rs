//! The token: a wrong PIN, a token that goes away, and a module that does not start.

use std::os::unix::fs::PermissionsExt as _;

use rootbridge::mesh::proto::rootbridge_v1::GetTrustBundleRequest;
use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{https, refusal};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, stays};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_leaves_it_running_and_not_ready() {
    let setup = TestServer::new();
    let pin = setup.path("token/pin");
    let right = std::fs::read_to_string(&pin).unwrap();
    std::fs::write(&pin, "0000-wrong").unwrap();
    let server = setup.start().await;
    server.wait_for_log("the token refuses the PIN").await;
    let tries = || server.log().matches("the token refuses the PIN").count();
    let once = "an unchanged PIN is not tried again";
    let span = std::time::Duration::from_secs(3);
    stays(span, once, async || tries() == 1).await;
    assert_eq!(server.get("/livez").await.0, 200);
    let (status, message) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        message.contains("the token of the issuing key is unavailable"),
        "{message}"
    );
    assert_eq!(
        server.metric("rootbridge_hsm_up{token=\"main\"}").await,
        Some(0.0)
    );
    assert_eq!(tries(), 1, "{once}");
    assert!(!server.log().contains("0000-wrong"));

    std::fs::write(&pin, right).unwrap();
    server.ready().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    eventually(PATIENCE, "it is up", async || {
        server.metric("rootbridge_hsm_up{token=\"main\"}").await == Some(1.0)
    })
    .await;
    server.stop().await;
}

async fn bundles_are_served(setup: &TestServer, server: &RunningServer) {
    let client = server.client(TD).await;
    let mut bundles = client.bundles();
    // A start publishes it when it has read the records.
    eventually(PATIENCE, "the bundle", async || {
        let request = GetTrustBundleRequest::default();
        let answer = bundles.get_trust_bundle(request).await;
        answer.is_ok_and(|bundle| bundle.into_inner().anchors.len() == 1)
    })
    .await;
    let url = format!("https://localhost:{}/v1/trust-bundles/{TD}", server.port());
    let answer = https(&setup.roots(TD)).get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// An HSM hiccup: UNAVAILABLE for certificates; bundles are served and traffic still comes, also after a
/// start without the token.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_it_still_serves_bundles() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    let (here, away) = (setup.path("token/tokens"), setup.path("token/away"));
    std::fs::rename(&here, &away).unwrap();
    eventually(PATIENCE, "no certificates", async || {
        client
            .istio(&token, &csr)
            .await
            .is_err_and(|status| status.code() == Code::Unavailable)
    })
    .await;
    let message = refusal(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(message.contains("HSM"), "{message}");
    eventually(PATIENCE, "the prober sees it", async || {
        server.metric("rootbridge_hsm_up{token=\"main\"}").await == Some(0.0)
    })
    .await;
    let signs = format!("rootbridge_issuer_ready{{trust_domain=\"{TD}\"}}");
    eventually(PATIENCE, "the authority does not sign", async || {
        server.metric(&signs).await == Some(0.0)
    })
    .await;
    assert_eq!(server.get("/readyz").await.0, 200);
    bundles_are_served(&setup, &server).await;
    server.stop().await;

    // A start without the token: with the last certificate and key, which only the server may read.
    let kept = setup.path("high-water/serving.test-0.mesh.0.pem");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The module itself is well.
    std::fs::create_dir(&here).unwrap();
    let server = setup.start().await;
    server
        .wait_for_log("the last serving certificate is in use until another is issued")
        .await;
    bundles_are_served(&setup, &server).await;
    let client = server.client(TD).await;
    let message = refusal(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(message.contains("the HSM is unavailable"), "{message}");
    let (status, message) = server.get("/readyz").await;
    assert_eq!(status, 503, "none can sign: {message}");

    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    server.ready().await;
    client.istio(&token, &csr).await.unwrap();
    assert_eq!(server.metric(&signs).await, Some(1.0));
    // Another one is issued, and kept.
    let first = std::fs::read(&kept).unwrap();
    server.stop().await;
    let server = setup.serve().await;
    eventually(PATIENCE, "another one", async || {
        std::fs::read(&kept).unwrap() != first
    })
    .await;
    // The server before may have kept it, and this one's own is on its way.
    eventually(PATIENCE, "no certificate is pending", async || {
        setup.certificates(&["--state", "pending"]).is_empty()
    })
    .await;
    server.stop().await;
}

/// Neither a missing library nor a failing C_Initialize ends a start; commands end with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_its_module_serves_and_uses_it_when_it_works() {
    let setup = TestServer::new();
    // Keeps a certificate for its listener.
    setup.serve().await.stop().await;
    let command = setup.use_faulty_module();
    command("initialize_rv 5\n");
    let (here, away) = (setup.path("shim.so"), setup.path("away.so"));
    std::fs::rename(&here, &away).unwrap();
    let server = setup.start().await;
    server.wait_for_log("no PKCS#11 module at").await;
    bundles_are_served(&setup, &server).await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let message = refusal(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(message.contains("the HSM is unavailable"), "{message}");
    assert_eq!(server.get("/readyz").await.0, 503, "none can sign");
    let error = setup.refused(&["key", "list"]);
    assert!(error.contains("no PKCS#11 module at"), "{error}");

    std::fs::rename(&away, &here).unwrap();
    server
        .wait_for_log("cannot initialize the PKCS#11 module")
        .await;
    let error = setup.refused(&["key", "list"]);
    assert!(
        error.contains("cannot initialize the PKCS#11 module"),
        "{error}"
    );
    bundles_are_served(&setup, &server).await;

    command("");
    server.ready().await;
    client.istio(&token, &csr).await.unwrap();
    server.stop().await;
}
