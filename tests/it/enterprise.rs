//! An issuing CA under the enterprise's own root, and other meshes' roots in the bundle; all of it
//! while the server runs.

use std::time::{Duration, Instant};

use crate::istio::good;
use crate::judges::every_shape;
use crate::support::http::{get, wait_ready};
use crate::support::interop::{Facts, calls};
use crate::support::mesh::{Mesh, TRUST_DOMAIN};
use crate::support::openssl::{ScratchCa, handshake};

fn certified(mesh: &Mesh) -> Facts {
    let answer = calls(mesh, &[good(mesh, "ask")]).remove(0);
    assert_eq!(
        (answer.code.as_str(), answer.problem.as_str()),
        ("OK", ""),
        "{answer:?}"
    );
    answer.facts.unwrap()
}

#[test]
fn under_the_enterprises_root() {
    let mesh = Mesh::bare();
    let mut server = mesh.start();
    // It starts, is not ready, and says what to do.
    wait_ready(mesh.admin, "/livez", Duration::from_secs(20), || {
        server.ended()
    })
    .unwrap();
    let waiting = get(mesh.admin, "/readyz").unwrap();
    assert_eq!(waiting.status, 503, "{waiting:?}");
    let begun = Instant::now();
    while !server.log().contains("rootbridge ca init") {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    let root = ScratchCa::new(&mesh.path("enterprise"));
    let policy = root.subordinate(&mesh.path("policy"), 1);
    let csr = mesh.path("issuing.csr");
    std::fs::write(
        &csr,
        mesh.cli(&["ca", "request", "--trust-domain", TRUST_DOMAIN]),
    )
    .unwrap();
    let chain = [policy.sign_ca(&csr, 0), policy.roots(), root.roots()];
    let text: String = chain
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let answer = mesh.path("chain.pem");
    std::fs::write(&answer, text).unwrap();
    mesh.cli(&["ca", "import", answer.to_str().unwrap()]);

    // The running server takes it.
    wait_ready(mesh.admin, "/readyz", Duration::from_secs(20), || {
        server.ended()
    })
    .unwrap();
    let begun = Instant::now();
    while !handshake(mesh.port) {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "no handshake\n{}",
            server.log()
        );
    }
    let facts = certified(&mesh);
    assert_eq!((facts.intermediates, facts.roots), (2, 1));
    every_shape(&mesh, &["ecdsa-p256"]);
}

#[test]
fn foreign_anchors_come_and_go() {
    let mesh = Mesh::new();
    let server = mesh.serve();
    assert_eq!(certified(&mesh).roots, 1);
    let foreign = ScratchCa::new(&mesh.path("foreign")).roots();
    let path = foreign.to_str().unwrap();
    mesh.cli(&[
        "anchors",
        "add",
        "--trust-domain",
        TRUST_DOMAIN,
        "--source",
        "a test",
        path,
    ]);
    let until = |roots: usize| {
        let begun = Instant::now();
        while certified(&mesh).roots != roots {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{}",
                server.log()
            );
        }
    };
    until(2);
    let listed = mesh.cli(&["anchors", "list", "-o", "json"]);
    assert!(listed.contains("a test"), "{listed}");
    let fingerprint = crate::support::openssl::fingerprint(&foreign);
    mesh.cli(&[
        "anchors",
        "remove",
        "--trust-domain",
        TRUST_DOMAIN,
        &fingerprint,
    ]);
    until(1);
    mesh.judge_ledger(&[]);
}
