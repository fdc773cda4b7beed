//! Followers of the bundle stream say what they have applied, and a rotation waits for them.

use rootbridge::mesh::proto::rootbridge_v1::{
    GetTrustBundleRequest, ReportTrustBundleRequest, TargetReport,
};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, refusal};
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::rotation_servers::{advance, rotate};

const WATCHERS: &str = r#"
[watchers.billing]
trust_domain = "cluster.local"
identity = "spiffe://cluster.local/ns/shop/sa/billing"

[watchers.quiet]
trust_domain = "cluster.local"
identity = "operator:other"

[profiles.workload]
"#;

/// Reports what it holds.
async fn report(
    client: &Client,
    headers: MetadataMap,
    instance: &str,
    (sequence, digest): &(u64, String),
) -> Result<u64, Status> {
    let mut request = tonic::Request::new(ReportTrustBundleRequest {
        trust_domain: String::new(),
        instance: instance.to_owned(),
        sequence: *sequence,
        digest: digest.clone(),
        targets: Vec::new(),
    });
    *request.metadata_mut() = headers;
    let answer = client.bundles().report_trust_bundle(request).await?;
    Ok(answer.into_inner().sequence)
}

async fn newest(client: &Client) -> (u64, String) {
    let request = GetTrustBundleRequest::default();
    let bundle = client.bundles().get_trust_bundle(request).await.unwrap();
    let bundle = bundle.into_inner();
    (bundle.sequence, bundle.digest)
}

/// Why watchers hold the rotation back, by name.
fn held(setup: &TestServer, server: &RunningServer) -> Vec<String> {
    let explained = rotate(setup, server, &["explain"]).unwrap();
    let held = explained["held"].as_array().unwrap().iter();
    let watchers = held.filter(|each| each["condition"] == "watcher");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    watchers
        .map(|each| format!("{}: {}", text(&each["what"]), text(&each["why"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_what_watchers_have_applied() {
    let setup = TestServer::with(&[("\n[profiles.workload]\n", WATCHERS)]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = || bearer(&setup.issuer.own("shop", "billing"));
    let old = newest(&client).await;

    // Who is no watcher reports nothing.
    refusal(
        report(&client, MetadataMap::new(), "a", &old).await,
        Code::Unauthenticated,
    );
    let stranger = bearer(&setup.issuer.own("shop", "web"));
    let said = report(&client, stranger, "a", &old).await.unwrap_err();
    assert_eq!(said.code(), Code::PermissionDenied, "{said}");
    assert!(said.message().contains("[watchers]"), "{said}");
    for (instance, (sequence, digest)) in [
        ("", old.clone()),
        ("a b", old.clone()),
        ("a", (old.0, "00".to_owned())),
    ] {
        refusal(
            report(&client, token(), instance, &(sequence, digest)).await,
            Code::InvalidArgument,
        );
    }
    let mut targets = tonic::Request::new(ReportTrustBundleRequest {
        instance: "a".to_owned(),
        digest: old.1.clone(),
        targets: vec![TargetReport::default()],
        ..ReportTrustBundleRequest::default()
    });
    *targets.metadata_mut() = token();
    refusal(
        client.bundles().report_trust_bundle(targets).await,
        Code::InvalidArgument,
    );

    // By a token and by a certificate.
    let csr = KeyAndCsr::workload("shop", "billing");
    let chain = client
        .istio(&setup.issuer.istio("shop", "billing"), &csr)
        .await;
    let identity = (chain.unwrap().pem(), csr.key.serialize_pem());
    let by_certificate = server.client_as(TD, Some((&identity.0, &identity.1))).await;
    report(&client, token(), "a", &old).await.unwrap();
    report(&by_certificate, MetadataMap::new(), "b", &old)
        .await
        .unwrap();

    rotate(&setup, &server, &["start"]).unwrap();
    for phase in ["publish", "converge"] {
        assert_eq!(advance(&setup, &server).await, phase);
    }
    let both = newest(&client).await;
    assert!(both.0 > old.0);
    let older = |name: &str| {
        format!(
            "watcher {name}: it has applied bundle {}, and {} is the newest",
            old.0, both.0
        )
    };
    let silent = "watcher quiet: it has never said what it has applied".to_owned();
    let expected = [silent.clone(), older("billing/a"), older("billing/b")];
    assert_eq!(held(&setup, &server), expected);

    // Each counts by itself, and what is reported is on record when the call returns.
    assert_eq!(report(&client, token(), "a", &both).await.unwrap(), both.0);
    assert_eq!(held(&setup, &server), [silent.clone(), older("billing/b")]);
    let false_digest = (both.0, old.1.clone());
    report(&by_certificate, MetadataMap::new(), "b", &false_digest)
        .await
        .unwrap();
    let differs = "watcher billing/b: what it has applied is not the bundle that is published";
    assert_eq!(held(&setup, &server), [silent.clone(), differs.to_owned()]);
    report(&by_certificate, MetadataMap::new(), "b", &both)
        .await
        .unwrap();
    assert_eq!(held(&setup, &server), vec![silent.clone()]);

    // One that goes back withdraws what it had said.
    report(&client, token(), "a", &old).await.unwrap();
    assert_eq!(held(&setup, &server), [silent.clone(), older("billing/a")]);
    server
        .wait_for_log("a watcher has gone back to an older bundle")
        .await;
    // It is not there any more, and an operator says so.
    let forget = [
        "forget",
        "--watcher",
        "billing/a",
        "--reason",
        "scaled down",
    ];
    let forgotten = rotate(&setup, &server, &forget).unwrap();
    assert_eq!(forgotten["watcher"], "billing/a");
    assert_eq!(held(&setup, &server), [silent]);
    let again = rotate(&setup, &server, &forget).unwrap_err();
    assert!(again.contains("no watcher billing/a"), "{again}");
    // Another start remembers them.
    server.stop().await;
    let server = setup.serve().await;
    let client = server.client(TD).await;
    eventually(PATIENCE, "the bundle is published again", async || {
        newest(&client).await == both
    })
    .await;
    report(&client, token(), "a", &old).await.unwrap();
    assert_eq!(held(&setup, &server).last(), Some(&older("billing/a")));
    server.stop().await;
}
