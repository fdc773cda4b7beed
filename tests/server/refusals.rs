//! Why a call was refused is in the log at its default level, once, and never with the credential.

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::{TD, TestServer};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_refusal_is_logged_once_with_the_request_id() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("shop", "cart");
    let token = setup.issuer.istio("shop", "cart");
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(client.istio(&forged, &csr).await.unwrap_err().to_string());
    }
    // The first answer's request id leads to the reason.
    let (_, id) = answers[0].split_once("[request ").unwrap();
    let (id, _) = id.split_once(']').unwrap();
    server.wait_for_log(id).await;
    let log = server.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a call is refused"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = lines[0];
    for part in [id, "CreateCertificate", "signature", "127.0.0.1"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains(&forged) && !line.contains(&token), "{line}");
    // Another reason is another line.
    client.istio("abc", &csr).await.unwrap_err();
    server.wait_for_log("not a compact JWS").await;
    server.stop().await;
}

/// A rule cannot permit a name of another trust domain: the message says which of the two it is. Either is
/// counted, and in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_another_trust_domain_is_told_from_one_without_a_rule() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::new(&[]);
    let ask = async |name: &str| {
        let request = sign_request(&csr, "workload", &[name]);
        let answer = client.sign(&setup.operator, request).await;
        refusal(answer, Code::PermissionDenied)
    };
    let foreign = ask("spiffe://other.example/ns/foo/sa/bar").await;
    let says = "not in the trust domain of this caller";
    assert!(foreign.contains(says), "{foreign}");
    let no_rule = ask("dns:web.other.svc").await;
    assert!(
        !no_rule.contains("trust domain") && no_rule.contains("policy does not let"),
        "{no_rule}"
    );
    server.wait_for_log("no rule lets").await;
    server.wait_for_log("is not in the trust domain").await;
    server.stop().await;
}
