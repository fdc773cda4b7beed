//! Trust bundles: the download, the watch, and how anchors come and go.

use std::time::Duration;

use reqwest::header::{ACCEPT, ALLOW, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use reqwest::{Client as Https, Method, StatusCode};
use rootbridge::mesh::proto::rootbridge_v1::{GetTrustBundleRequest, WatchTrustBundleRequest};
use rootbridge::x509::parse_pem_chain;
use serde_json::Value;
use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{https, refusal};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

/// A listener that has its certificate yet, and the address of the download.
async fn download(setup: &TestServer, server: &RunningServer) -> (Https, String) {
    server.client(TD).await;
    let url = format!("https://localhost:{}/v1/trust-bundles/", server.port());
    (https(&setup.roots(TD)), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_download() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let (client, url) = download(&setup, &server).await;
    let ask = |method: Method, file: &str| client.request(method, format!("{url}{file}"));
    let root = parse_pem_chain(setup.roots(TD).as_bytes())
        .unwrap()
        .remove(0);

    let plain = ask(Method::GET, TD).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::OK);
    assert_eq!(plain.headers()[CONTENT_TYPE], "application/x-pem-file");
    assert!(
        plain.headers()[VARY]
            .to_str()
            .unwrap()
            .eq_ignore_ascii_case("accept")
    );
    let tag = plain.headers()[ETAG].clone();
    assert!(
        tag.to_str().unwrap().starts_with('"'),
        "a strong validator: {tag:?}"
    );
    let pem = plain.text().await.unwrap();
    assert_eq!(
        parse_pem_chain(pem.as_bytes()).unwrap(),
        std::slice::from_ref(&root)
    );
    let suffixed = ask(Method::GET, &format!("{TD}.pem")).send().await.unwrap();
    assert_eq!(
        (
            suffixed.headers()[ETAG].clone(),
            suffixed.text().await.unwrap()
        ),
        (tag.clone(), pem)
    );

    let by_accept = ask(Method::GET, TD)
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    let by_suffix = ask(Method::GET, &format!("{TD}.json"))
        .send()
        .await
        .unwrap();
    assert_eq!(by_accept.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(by_accept.headers()[ETAG], by_suffix.headers()[ETAG]);
    assert_ne!(
        by_accept.headers()[ETAG],
        tag,
        "another representation, another validator"
    );
    let bundle = by_accept.text().await.unwrap();
    assert_eq!(bundle, by_suffix.text().await.unwrap());
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    spiffe_bundle(&bundle, root.der(), 1);

    // Conditional, and HEAD.
    for held in [tag.to_str().unwrap(), "\"other\", W/\"x\"", "*"] {
        let answer = ask(Method::GET, TD)
            .header(IF_NONE_MATCH, held)
            .send()
            .await
            .unwrap();
        let expected = if held.starts_with("\"o") {
            StatusCode::OK
        } else {
            StatusCode::NOT_MODIFIED
        };
        assert_eq!(answer.status(), expected, "{held}");
        assert_eq!(answer.headers()[ETAG], tag);
        assert_eq!(
            answer.text().await.unwrap().is_empty(),
            expected == StatusCode::NOT_MODIFIED
        );
    }
    let head = ask(Method::HEAD, TD).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()[ETAG]),
        (StatusCode::OK, &tag)
    );
    assert_eq!(head.text().await.unwrap(), "");

    for file in [
        "other.example",
        "other.example.json",
        "",
        "a/b",
        "%00",
        "%FF",
        "..%2f..",
        "CLUSTER.LOCAL",
        &"x".repeat(5000),
    ] {
        let answer = ask(Method::GET, file).send().await.unwrap();
        assert!(
            answer.status().is_client_error(),
            "{file}: {}",
            answer.status()
        );
    }
    let answer = ask(Method::GET, "other.example").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = ask(Method::POST, TD).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.headers()[ALLOW].to_str().unwrap().contains("GET"));
    // Other paths on the port: a browser gets 404, not gRPC's 200.
    let nowhere = client
        .get(format!("https://localhost:{}/", server.port()))
        .send()
        .await
        .unwrap();
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    server.stop().await;
}

/// SPIFFE Trust Domain and Bundle, section 4: a JWK set whose X.509 entries have one certificate.
fn spiffe_bundle(bundle: &Value, root: &[u8], sequence: u64) {
    use base64::Engine as _;
    assert_eq!(bundle["spiffe_sequence"], sequence);
    assert!(bundle["spiffe_refresh_hint"].as_u64().unwrap() > 0);
    let keys = bundle["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        (&keys[0]["use"], &keys[0]["kty"]),
        (&"x509-svid".into(), &"EC".into())
    );
    let chain = keys[0]["x5c"].as_array().unwrap();
    assert_eq!(chain.len(), 1);
    let der = base64::engine::general_purpose::STANDARD.decode(chain[0].as_str().unwrap());
    assert_eq!(der.unwrap(), root);
}

/// Anchors come and go while the server runs, and who watches has it within a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_watchers_at_once() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let watch = |domain: &str| {
        let mut bundles = client.bundles();
        let trust_domain = domain.to_owned();
        async move {
            bundles
                .watch_trust_bundle(WatchTrustBundleRequest { trust_domain })
                .await
        }
    };
    let mut stream = watch("").await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (
            first.sequence,
            first.anchors.len(),
            first.trust_domain.as_str()
        ),
        (1, 1, TD)
    );

    let foreign = OpensslCa::new(&setup.path(""), "foreign");
    std::fs::write(setup.path("foreign.pem"), foreign.pem()).unwrap();
    let file = setup.path("foreign.pem");
    setup.cli(&[
        "anchors",
        "add",
        file.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "old mesh",
    ]);
    let second = tokio::time::timeout(PATIENCE, stream.message()).await;
    let second = second.expect("sent without being asked").unwrap();
    let second = second.unwrap();
    assert_eq!((second.sequence, second.anchors.len()), (2, 2));
    let (https, url) = download(&setup, &server).await;
    let answer = https.get(format!("{url}{TD}")).send().await.unwrap();
    let tag = answer.headers()[ETAG].to_str().unwrap().to_owned();
    assert!(
        tag.contains(&second.digest),
        "{tag} is not of {}",
        second.digest
    );
    assert_eq!(
        parse_pem_chain(answer.text().await.unwrap().as_bytes())
            .unwrap()
            .len(),
        2
    );
    let one = client
        .bundles()
        .get_trust_bundle(GetTrustBundleRequest::default())
        .await
        .unwrap();
    assert_eq!(one.into_inner(), second);
    // Answered with certificates too, own root first.
    let token = setup.issuer.istio("foo", "bar");
    let chain = client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    assert_eq!(chain.roots.len(), 2);
    assert_eq!(chain.roots[0].der(), first.anchors[0]);

    let print: String = chain.roots[1]
        .fingerprint()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    setup.cli(&["anchors", "remove", &print]);
    let third = stream.message().await.unwrap().unwrap();
    assert_eq!((third.sequence, third.anchors), (3, first.anchors));
    // The own root is needed, so it stays.
    let own: String = chain.roots[0]
        .fingerprint()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let reported = setup.refused(&["anchors", "remove", &own]);
    assert!(reported.contains("retire the issuer first"), "{reported}");

    for (domain, code) in [
        ("other.example", Code::NotFound),
        ("Not A Domain", Code::InvalidArgument),
    ] {
        assert_eq!(watch(domain).await.unwrap_err().code(), code);
        let get = GetTrustBundleRequest {
            trust_domain: domain.to_owned(),
        };
        assert_eq!(
            client
                .bundles()
                .get_trust_bundle(get)
                .await
                .unwrap_err()
                .code(),
            code
        );
    }
    // Two trust domains: which one has to be said.
    setup.init("edge.example", &[]);
    eventually(PATIENCE, "a second bundle", async || {
        let get = client
            .bundles()
            .get_trust_bundle(GetTrustBundleRequest::default())
            .await;
        get.is_err_and(|status| status.code() == Code::InvalidArgument)
    })
    .await;
    // A watcher does not hold up the end.
    server.stop_in_order().await;
    assert!(!matches!(stream.message().await, Ok(Some(_))));
}

/// A foreign anchor leaves by itself when its time is over, and never vouches for a caller.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_anchors_are_published_and_nothing_else() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let foreign = OpensslCa::new(&setup.path(""), "foreign");
    let file = setup.path("foreign.pem");
    std::fs::write(&file, foreign.pem()).unwrap();
    let add = [
        "anchors",
        "add",
        file.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "old mesh",
        "--expires",
        "8s",
    ];
    setup.cli(&add);
    let count = async || {
        let get = client
            .bundles()
            .get_trust_bundle(GetTrustBundleRequest::default())
            .await;
        get.unwrap().into_inner().anchors.len()
    };
    eventually(PATIENCE, "it is published", async || count().await == 2).await;

    // A certificate below it, with one of our names.
    let csr = KeyAndCsr::workload("foo", "bar");
    let san = format!(
        "subjectAltName=critical,URI:{}",
        rootbridge_test_support::csr::id("foo", "bar")
    );
    let certificate = foreign.sign(&csr.pem, &san, &[]);
    let key = csr.key.serialize_pem();
    let caller = server.client_as(TD, Some((&certificate, &key))).await;
    let body = rootbridge_test_support::grpc::istio_request(&csr.pem, 0, &[]);
    refusal(
        caller
            .create(body, tonic::metadata::MetadataMap::new())
            .await,
        Code::Unauthenticated,
    );

    eventually(Duration::from_secs(20), "it leaves", async || {
        count().await == 1
    })
    .await;
    let get = client
        .bundles()
        .get_trust_bundle(GetTrustBundleRequest::default())
        .await
        .unwrap();
    assert_eq!(
        get.into_inner().sequence,
        3,
        "one version more, and not one for each look"
    );
    server.stop().await;
}
