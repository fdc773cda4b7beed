//! An issuing CA under the enterprise's own root, and other meshes' roots in the bundle; all of it
//! while the server runs.

use std::time::Instant;

use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, TD, TestServer};

use crate::certificates::verify_all;
use crate::istio::good;
use crate::support::interop::{Facts, calls};
use crate::support::{fingerprint, handshake, ledger};

fn certified(setup: &TestServer) -> Facts {
    let answer = calls(setup, &[good(setup, "ask")]).remove(0);
    assert_eq!(
        (answer.code.as_str(), answer.problem.as_str()),
        ("OK", ""),
        "{answer:?}"
    );
    answer.facts.unwrap()
}

#[tokio::test]
async fn under_the_enterprises_root() {
    let setup = TestServer::bare_on_fixed_ports();
    let server = setup.start().await;
    // It starts, is not ready, and logs what to do.
    assert_eq!(server.get("/livez").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 503);
    server.wait_for_log("rootbridge ca init").await;

    let root = OpensslCa::new(&setup.path(""), "enterprise");
    let policy = root.intermediate_with("policy", &["-newkey", "rsa:2048"], Some(1));
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let chain = policy.certify(&csr, 0) + &policy.pem() + &root.pem();
    let file = setup.path("chain.pem");
    std::fs::write(&file, chain).unwrap();
    setup.cli(&["ca", "import", file.to_str().unwrap()]);

    // The running server takes it.
    server.ready().await;
    let start = Instant::now();
    while !handshake(setup.port) {
        let late = start.elapsed() > PATIENCE;
        assert!(!late, "no handshake\n{}", server.log());
    }
    let facts = certified(&setup);
    assert_eq!((facts.intermediates, facts.roots), (2, 1));
    verify_all(&setup, &["ecdsa-p256"]);
}

#[tokio::test]
async fn foreign_anchors_are_added_and_removed() {
    let setup = TestServer::on_fixed_ports();
    let server = setup.serve().await;
    assert_eq!(certified(&setup).roots, 1);
    let foreign = OpensslCa::new(&setup.path(""), "foreign").pem_file();
    let path = foreign.to_str().unwrap();
    setup.cli(&[
        "anchors",
        "add",
        "--trust-domain",
        TD,
        "--source",
        "a test",
        path,
    ]);
    let until = |roots: usize| {
        let started = Instant::now();
        while certified(&setup).roots != roots {
            assert!(started.elapsed() < PATIENCE, "{}", server.log());
        }
    };
    until(2);
    let listed = setup.cli(&["anchors", "list", "-o", "json"]);
    assert!(listed.contains("a test"), "{listed}");
    let fingerprint = fingerprint(&foreign);
    setup.cli(&["anchors", "remove", "--trust-domain", TD, &fingerprint]);
    until(1);
    ledger::verify(&setup, &[]);
}
