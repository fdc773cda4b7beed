//! An issuing CA that is retired at once, and replaced without an operator.

use std::io::Write as _;
use std::process::Stdio;

use rootbridge::x509::{Certificate, parse_pem_chain};
use serde_json::Value;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_issuer_signs_nothing_more_and_is_replaced() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let (token, csr) = (
        setup.issuer.istio("shop", "web"),
        KeyAndCsr::workload("shop", "web"),
    );
    let before = client.istio(&token, &csr).await.unwrap();
    let admin = format!("http://127.0.0.1:{}", server.admin);
    let file = setup.path("operator.token").display().to_string();
    let access = ["--admin", &admin, "--credential-file", &file];
    let domain = ["--trust-domain", TD];
    let reason = ["--reason", "INC-1: the token was copied"];
    let command = [&["rotate", "compromised"], &domain[..], &reason, &access].concat();

    // Each of them is kept with its reason.
    for operation in [
        &["rotate", "compromised", "--yes", "--reason", " "][..],
        &["rotate", "back", "--reason", ""],
        &["rotate", "advance", "--force", "--reason", "\t"],
    ] {
        let refused = setup.refused(&[operation, &domain, &access].concat());
        assert!(refused.contains("the reason is empty"), "{refused}");
    }

    // It says who has certificates, and waits for a yes.
    let mut asked = setup.command(&command);
    asked.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut asked = asked.spawn().unwrap();
    asked.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let asked = asked.wait_with_output().unwrap();
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(!asked.status.success(), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "spiffe://cluster.local/ns/shop/sa/web: alive, until",
        "2 certificates are alive",
        "no handshake fails",
        "nothing was changed",
    ] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
    let unchanged = client.istio(&token, &csr).await.unwrap();
    assert_eq!(unchanged.leaf.issuer(), before.leaf.issuer());

    let done = setup.cli(&[&command[..], &["--yes", "-o", "json"]].concat());
    let done: Value = serde_json::from_str(&done).unwrap();
    // The server's own is the third.
    assert_eq!((&done["alive"], &done["signs"]), (&3.into(), &true.into()));
    let old = done["issuer"].as_str().unwrap().to_owned();
    // What is signed from here on is signed by the other one.
    let mut after = None;
    eventually(PATIENCE, "a certificate of the successor", async || {
        after = client.istio(&token, &csr).await.ok();
        after.is_some()
    })
    .await;
    let after = after.unwrap();
    let (was, is) = (before.leaf.issuer(), after.leaf.issuer());
    assert_eq!(is, was.replacen("issuing CA", "issuing CA G2", 1));
    let issued = setup.certificates(&["--issuer", &old, "--kind", "leaf", "--state", "issued"]);
    assert_eq!(issued.len(), 3);
    let root = |roots: &[Certificate]| {
        roots
            .iter()
            .map(Certificate::fingerprint)
            .collect::<Vec<_>>()
    };
    let made = parse_pem_chain(setup.roots(TD).as_bytes()).unwrap();
    assert_eq!(root(&after.roots), root(&made), "the root stays");

    // It ends by itself, although no policy moves rotations here.
    let status = [&["rotate", "status", "--all", "-o", "json"], &access[..]].concat();
    let mut all = Value::Null;
    eventually(PATIENCE, "the rotation ends", async || {
        all = serde_json::from_str(&setup.cli(&status)).unwrap();
        all[0]["phase"] == "done"
    })
    .await;
    assert_eq!(all[0]["kind"], "new-issuer");
    let steps = all[0]["steps"].as_array().unwrap();
    let forced: Vec<_> = steps
        .iter()
        .filter(|step| !step["forced"].is_null())
        .collect();
    assert_eq!(forced.len(), 1, "{forced:?}");
    assert_eq!(forced[0]["phase"], "retire");

    let again = [&command[..], &["--issuer", &old, "--yes"]].concat();
    let again = setup.refused(&again);
    assert!(again.contains("is retired already"), "{again}");
    // What the old one signed is taken out of trust by a new root.
    let start = [&["rotate", "start"], &domain[..], &access].concat();
    setup.cli(&start);
    server.stop().await;
}
