//! Istio's contract: the odd subject, CertSigner, impersonation, headers.

use prost_types::value::Kind;
use rcgen::KeyPair;
use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::x509::to_pem;
use tonic::Code;
use tonic::metadata::MetadataMap;

use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{bearer, istio_request, refusal, text};
use rootbridge_test_support::{TD, TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_their_requests() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let name = id("foo", "bar");
    for key in [
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap(),
        KeyPair::generate().unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
    ] {
        let csr = KeyAndCsr::istio(key, &name);
        let chain = client.istio(&token, &csr).await.unwrap();
        assert_eq!(chain.names(), [name.as_str()]);
        assert_eq!(
            chain.leaf.subject(),
            "",
            "nothing of the CSR's subject is taken over"
        );
        let back = SystemClock.now().since(chain.leaf.not_before()).as_secs();
        assert!((120..180).contains(&back), "{back}s back");
    }
    // ztunnel's metadata has no CertSigner, older agents send none at all.
    let csr = KeyAndCsr::workload("foo", "bar");
    for fields in [
        &[][..],
        &[("CertSigner", text(""))],
        &[("Other", Kind::NumberValue(1.0))],
        &[("ImpersonatedIdentity", text(""))],
    ] {
        client
            .create(istio_request(&csr.pem, 0, fields), bearer(&token))
            .await
            .unwrap();
    }
    let mut body = istio_request(&csr.pem, 0, &[]);
    body.metadata = None;
    client.create(body, bearer(&token)).await.unwrap();
    // The credential is verified before the CSR's signature, which costs more.
    let mut unproved = csr.der.clone();
    *unproved.last_mut().unwrap() ^= 1;
    let unproved = to_pem("CERTIFICATE REQUEST", &unproved);
    let ask = async |token: &str| {
        let body = istio_request(&unproved, 0, &[]);
        client.create(body, bearer(token)).await
    };
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    refusal(ask(&forged).await, Code::Unauthenticated);
    let message = refusal(ask(&token).await, Code::InvalidArgument);
    assert!(message.contains("proof of possession"), "{message}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cert_signer_names_a_profile_that_policy_allows() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let ask = async |kind| {
        client
            .create(
                istio_request(&csr.pem, 0, &[("CertSigner", kind)]),
                bearer(&token),
            )
            .await
    };
    let answer = ask(text("short")).await.unwrap();
    assert_eq!(Chain::istio(&answer.cert_chain).lifetime(), 11);
    // Known, but no rule; unknown; not a string.
    refusal(ask(text("ignore")).await, Code::PermissionDenied);
    refusal(ask(text("serving")).await, Code::PermissionDenied);
    let message = refusal(ask(text("unheard-of")).await, Code::InvalidArgument);
    assert!(message.starts_with("CertSigner: "), "{message}");
    for kind in [
        Kind::NumberValue(1.0),
        Kind::BoolValue(true),
        Kind::NullValue(0),
        Kind::StructValue(prost_types::Struct::default()),
    ] {
        refusal(ask(kind).await, Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonation_is_refused_as_unauthenticated() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("istio-system", "ztunnel");
    for identity in [
        id("foo", "bar"),
        id("istio-system", "ztunnel"),
        "spiffe://other/ns/a/sa/b".into(),
        "nonsense".into(),
    ] {
        let csr = KeyAndCsr::workload("foo", "bar");
        let body = istio_request(
            &csr.pem,
            86_400,
            &[("ImpersonatedIdentity", text(&identity))],
        );
        let message = refusal(
            client.create(body, bearer(&token)).await,
            Code::Unauthenticated,
        );
        assert!(!message.contains("spiffe://"), "{message}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_credential_in_one_header() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let ask = async |headers| {
        client
            .create(istio_request(&csr.pem, 0, &[]), headers)
            .await
    };
    let with = |values: &[&str]| {
        let mut headers = MetadataMap::new();
        for value in values {
            headers.append("authorization", value.parse().unwrap());
        }
        headers
    };
    let good = format!("Bearer {token}");
    ask(with(&[&good])).await.unwrap();
    ask(with(&[&format!("bearer {token}")])).await.unwrap();
    for values in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &[token.as_str()],
        &["Basic dXNlcjpwYXNz"],
        &[&good, &good],
        &[&good, "Bearer other"],
        &["Bearer other", &good],
        &[&format!("{good}, {good}")],
    ] {
        refusal(ask(with(values)).await, Code::Unauthenticated);
    }
    // For another API, by another key, by no issuer's.
    for other in [
        setup.issuer.own("foo", "bar"),
        setup.issuer.person("alice"),
        setup.other_operator.clone(),
        format!("{token}x"),
        "a.b.c".to_owned(),
        "x".repeat(17_000),
    ] {
        refusal(ask(bearer(&other)).await, Code::Unauthenticated);
    }
    // A request id of the caller's own is in the log beside ours, which alone is in the answer.
    let ours = |message: &str| {
        let (_, id) = message.split_once("[request ").unwrap();
        id.trim_end_matches(']').to_owned()
    };
    let mut headers = with(&[]);
    headers.insert("x-request-id", "trace-1.2_3".parse().unwrap());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let message = refusal(ask(headers.clone()).await, Code::Unauthenticated);
        ids.push(ours(&message));
        server.wait_for_log("trace-1.2_3").await;
    }
    assert!(
        ids[0] != ids[1] && !ids.contains(&"trace-1.2_3".to_owned()),
        "{ids:?}"
    );
    let beside = format!(
        "\"request_id\":\"{}\",\"caller_request_id\":\"trace-1.2_3\"",
        ids[0]
    );
    server.wait_for_log(&beside).await;
    headers.insert("x-request-id", "a b]\" c".parse().unwrap());
    assert!(!refusal(ask(headers).await, Code::Unauthenticated).contains("a b]"));
    server.stop().await;
}
