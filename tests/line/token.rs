//! The token: a wrong PIN, and a token that goes away.

use rootbridge::mesh::proto::rootbridge_v1::GetTrustBundleRequest;
use tonic::Code;

use crate::support::calls::{https, told};
use crate::support::request::Request;
use crate::support::{Line, PATIENCE, TD, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_keeps_it_up_and_not_ready() {
    let line = Line::new();
    let pin = line.path("token/pin");
    let right = std::fs::read_to_string(&pin).unwrap();
    std::fs::write(&pin, "0000-wrong").unwrap();
    let server = line.start().await;
    server.says("the token refuses the PIN").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(server.get("/livez").await.0, 200);
    let (status, said) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        said.contains("the token of the issuing key is unavailable"),
        "{said}"
    );
    assert_eq!(
        server.metric("rootbridge_hsm_up{token=\"main\"}").await,
        Some(0.0)
    );
    let tries = server.log().matches("the token refuses the PIN").count();
    assert_eq!(tries, 1, "an unchanged PIN is not tried again");
    assert!(!server.log().contains("0000-wrong"));

    std::fs::write(&pin, right).unwrap();
    server.ready().await;
    let client = server.client(TD).await;
    let token = line.issuer.istio("foo", "bar");
    client
        .istio(&token, &Request::workload("foo", "bar"))
        .await
        .unwrap();
    eventually(PATIENCE, "it is up", async || {
        server.metric("rootbridge_hsm_up{token=\"main\"}").await == Some(1.0)
    })
    .await;
    server.stop().await;
}

/// An HSM hiccup: UNAVAILABLE for certificates; bundles are served and traffic still comes.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_it_still_serves_bundles() {
    let line = Line::new();
    let server = line.serve().await;
    let client = server.client(TD).await;
    let token = line.issuer.istio("foo", "bar");
    let csr = Request::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    let (here, away) = (line.path("token/tokens"), line.path("token/away"));
    std::fs::rename(&here, &away).unwrap();
    eventually(PATIENCE, "no certificates", async || {
        client
            .istio(&token, &csr)
            .await
            .is_err_and(|status| status.code() == Code::Unavailable)
    })
    .await;
    let said = told(client.istio(&token, &csr).await, Code::Unavailable);
    assert!(said.contains("HSM"), "{said}");
    eventually(PATIENCE, "the prober sees it", async || {
        server.metric("rootbridge_hsm_up{token=\"main\"}").await == Some(0.0)
    })
    .await;
    assert_eq!(server.get("/readyz").await.0, 200);
    let bundle = client
        .bundles()
        .get_trust_bundle(GetTrustBundleRequest::default())
        .await;
    assert_eq!(bundle.unwrap().into_inner().anchors.len(), 1);
    let url = format!("https://localhost:{}/v1/trust-bundles/{TD}", server.port());
    assert_eq!(
        https(&line.roots(TD))
            .get(url)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    std::fs::rename(&away, &here).unwrap();
    // SoftHSM reads its token directory when it is initialized: a restart is sure to help. To do
    // that in the running process (finalize, initialize) belongs to the deeper HSM faults.
    server.stop().await;
    let server = line.serve().await;
    let client = server.client(TD).await;
    client.istio(&token, &csr).await.unwrap();
    let open = line.certificates(&["--state", "pending"]);
    assert!(open.is_empty(), "{open:#?}");
    server.stop().await;
}
