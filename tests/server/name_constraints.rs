//! An issuing CA whose nameConstraints rule out names, or that verifiers refuse.

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::openssl::{OpensslCa, ca};
use rootbridge_test_support::{TD, TestServer};
use tonic::Code;

fn certified(setup: &TestServer, more: &str) -> std::path::PathBuf {
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let issuing = enterprise.sign(&csr, &format!("{}\n{more}", ca(Some(0))), &[]);
    let path = setup.path("chain.pem");
    std::fs::write(&path, issuing + &enterprise.pem()).unwrap();
    std::fs::write(setup.path(&format!("{TD}.pem")), enterprise.pem()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_verifier_would_accept_is_not_signed() {
    let setup = TestServer::bare();
    // The listener's own name and address are permitted, others are not.
    let more = "nameConstraints=critical,permitted;DNS:localhost,permitted;DNS:a.shop.svc,\
                permitted;IP:127.0.0.0/255.0.0.0";
    let chain = certified(&setup, more);
    let output = setup.try_cli(&["ca", "import", chain.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("warning"),
        "{said}"
    );
    setup.cli(&["check"]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    for (name, permitted) in [("a.shop.svc", true), ("b.shop.svc", false)] {
        let requested = format!("dns:{name}");
        let request = sign_request(&KeyAndCsr::new(&[name]), "workload", &[&requested]);
        let answer = client.sign(&setup.operator, request);
        match permitted {
            true => drop(answer.await.unwrap()),
            false => {
                refusal(answer.await, Code::PermissionDenied);
            }
        }
    }
    server
        .wait_for_log("b.shop.svc is outside of what the issuing CA may certify")
        .await;
    server.stop().await;
}

#[test]
fn names_that_are_configured_and_ruled_out_are_named() {
    let setup = TestServer::bare();
    let chain = certified(
        &setup,
        "nameConstraints=critical,permitted;DNS:corp.example",
    );
    let output = setup.try_cli(&["ca", "import", chain.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "no certificate for dns:localhost will verify: the nameConstraints of";
    assert!(output.status.success() && said.contains(expected), "{said}");
    let output = setup.try_cli(&["check", "-o", "short"]);
    let report = String::from_utf8_lossy(&output.stdout);
    let expected = "no certificate for dns:localhost verifies";
    assert!(
        !output.status.success() && report.contains(expected),
        "{report}"
    );
}

#[test]
fn what_a_verifier_refuses_is_not_imported() {
    for (more, says) in [
        (
            "nameConstraints=critical,permitted;IP:10.0.0.0/255.0.255.0",
            "Go",
        ),
        ("nameConstraints=critical,permitted;DNS:corp..example", "Go"),
    ] {
        let setup = TestServer::bare();
        let chain = certified(&setup, more);
        let message = setup.refused(&["ca", "import", chain.to_str().unwrap()]);
        let expected = format!("{says} (istiod");
        assert!(message.contains(&expected), "{more}: {message}");
    }
}
