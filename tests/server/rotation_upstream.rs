//! From an own root to the enterprise's: the chain that an operator imports waits for its rotation.

use std::fs;
use std::process::Command;

use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::openssl::{OpensslCa, ca};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::Value;

use crate::rotation_servers::{advance, rotate};

const START: [&str; 3] = ["start", "--kind", "upstream-root"];

fn import(setup: &TestServer, enterprise: &OpensslCa) -> Value {
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let chain = enterprise.certify(&csr, 0) + &enterprise.pem();
    let path = setup.path("chain.pem");
    fs::write(&path, chain).unwrap();
    again(setup)
}

/// The same file.
fn again(setup: &TestServer) -> Value {
    let path = setup.path("chain.pem");
    let report = setup.cli(&["ca", "import", path.to_str().unwrap(), "-o", "json"]);
    serde_json::from_str(&report).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_chain_signs_when_its_rotation_says_so() {
    let setup = TestServer::new();
    let own = setup.roots(TD);
    let server = setup.serve().await;
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let fixed = [&START[..], &["--key", "ecdsa-p384"]].concat();
    let refused = rotate(&setup, &server, &fixed).unwrap_err();
    assert!(refused.contains("rootbridge ca request"), "{refused}");
    rotate(&setup, &server, &START).unwrap();
    eventually(PATIENCE, "what it waits for", async || {
        let held = rotate(&setup, &server, &["explain"]).unwrap()["held"].clone();
        held[0]["condition"] == "preparation" && held[0]["whose"] == "upstream-ca"
    })
    .await;

    // Published, not used; the same again changes nothing.
    let report = import(&setup, &enterprise);
    assert_eq!(
        (&report["rotation"], &report["bundle_sequence"]),
        (&1.into(), &2.into())
    );
    let first = report["issuer"].as_str().unwrap().to_owned();
    assert!(again(&setup)["bundle_sequence"].is_null());
    let both = own.clone() + &enterprise.pem();
    fs::write(setup.path(&format!("{TD}.pem")), both).unwrap();
    let issue = async || {
        let (token, csr) = (
            setup.issuer.istio("foo", "bar"),
            KeyAndCsr::workload("foo", "bar"),
        );
        let answer = server.client(TD).await.istio(&token, &csr).await;
        // A server that has not heard of what is retired refuses for a moment.
        let chain = answer.ok()?;
        let above = chain.above[0].issuer();
        Some((above.contains("Enterprise"), chain.roots.len()))
    };
    for phase in ["publish", "converge"] {
        assert_eq!(advance(&setup, &server).await, phase);
    }
    assert_eq!(issue().await, Some((false, 2)));

    // It goes back: the key is not used again, and the root leaves.
    let back = ["back", "--reason", "CHG-9 is postponed"];
    assert_eq!(rotate(&setup, &server, &back).unwrap()["phase"], "retire");
    assert_eq!(advance(&setup, &server).await, "withdrawn");
    eventually(PATIENCE, "the bundle as it was", async || {
        issue().await == Some((false, 1))
    })
    .await;
    let listed: Value = serde_json::from_str(&setup.cli(&["ca", "list", "-o", "json"])).unwrap();
    let issuers = listed.as_array().unwrap();
    let of_first = issuers.iter().find(|each| each["issuer"] == *first);
    assert_eq!(of_first.unwrap()["state"], "retired");

    // Again, with another key. Who got the bundle in between has it until that expires.
    rotate(&setup, &server, &START).unwrap();
    let report = import(&setup, &enterprise);
    assert_eq!(report["rotation"], 2);
    assert_ne!(report["issuer"], first);
    for phase in ["publish", "converge"] {
        assert_eq!(advance(&setup, &server).await, phase);
    }
    let held = rotate(&setup, &server, &["explain"]).unwrap()["held"].clone();
    assert_eq!(held[0]["condition"], "holder", "{held}");
    let force = ["advance", "--force", "--reason", "a test"];
    let forced = rotate(&setup, &server, &force).unwrap();
    assert_eq!(forced["phase"], "activate");
    eventually(PATIENCE, "the enterprise's certificate", async || {
        issue().await == Some((true, 2))
    })
    .await;
    let back = rotate(&setup, &server, &["back", "--reason", "it is only a test"]).unwrap();
    assert_eq!(back["phase"], "drain");
    eventually(PATIENCE, "the own root's certificate", async || {
        issue().await == Some((false, 2))
    })
    .await;
    server.stop().await;
}

/// Its next root, which the one before has certified: the path ends in that, and no rotation is needed.
#[test]
fn a_cross_certificate_of_the_upstream_ca_makes_a_renewal() {
    let setup = TestServer::bare();
    let old = OpensslCa::new(&setup.path(""), "old");
    assert_eq!(import(&setup, &old)["bundle_sequence"], 1);

    let next = old.intermediate("next");
    let extensions = setup.path("next.ext");
    let text = format!("{}\nsubjectKeyIdentifier=hash\n", ca(None));
    fs::write(&extensions, text).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "3650", "-in"]);
    openssl.arg(next.key_file().with_extension("csr"));
    openssl.arg("-signkey").arg(next.key_file());
    let root = run(openssl.arg("-extfile").arg(&extensions));
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let issuing = next.certify(&csr, 0);
    fs::write(setup.path("chain.pem"), issuing.clone() + &root).unwrap();
    let path = setup.path("chain.pem");
    let refused = setup.refused(&["ca", "import", path.to_str().unwrap()]);
    assert!(refused.contains("--kind upstream-root"), "{refused}");
    fs::write(&path, issuing + &root + &next.pem()).unwrap();
    let report = again(&setup);
    assert!(report["bundle_sequence"].is_null(), "{report}");
    assert!(report["rotation"].is_null(), "{report}");
    let subject = report["anchor"]["subject"].as_str().unwrap();
    assert!(subject.contains("CN=old"), "{report}");
}
