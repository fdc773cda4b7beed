//! The enterprise's CA has a new root: a rotation publishes that, and says when the issuing CA below it
//! signs.

use std::fs;

use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::chain::Chain;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, stays};
use serde_json::Value;
use std::time::Duration;

use crate::authority::{
    approve, configure, fingerprint, issuers, status, wait_for_problem, wait_for_state,
};
use crate::command::serve;
use crate::enterprise::Enterprise;
use crate::renewal::{A_CALLERS_PAUSE, shorten_profiles, used};

fn rotate(setup: &TestServer, server: &RunningServer, arguments: &[&str]) -> Result<Value, String> {
    let admin = format!("http://127.0.0.1:{}", server.admin);
    let file = setup.path("operator.token").display().to_string();
    let access = ["--trust-domain", TD, "--admin", &admin];
    let access = [&access[..], &["--credential-file", &file, "-o", "json"]].concat();
    let output = setup.try_cli(&[&["rotate"], arguments, &access].concat());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// What a workload that renews gets.
async fn renew(setup: &TestServer, server: &RunningServer) -> Chain {
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = server.client(TD).await.istio(&token, &csr).await;
    tokio::time::sleep(A_CALLERS_PAUSE).await;
    chain.unwrap()
}

/// Moves as soon as nothing holds it back, while a workload renews.
async fn reach(setup: &TestServer, server: &RunningServer, phase: &str) {
    eventually(PATIENCE, phase, async || {
        renew(setup, server).await;
        let moved = rotate(setup, server, &["advance"]);
        moved.is_ok_and(|moved| {
            assert_eq!(moved["phase"], phase);
            true
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_says_when_a_new_root_is_used() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    setup.edit("[admin]\n", "[rotation]\nsettle = \"1s\"\n\n[admin]\n");
    let old = Enterprise::new(setup.path("old"));
    configure(&setup, &old, "publish_first = \"1s\"").await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &old);
    server.ready().await;
    renew(&setup, &server).await;

    // From now on it certifies below the new one. None is due, and the rotation asks for it.
    let new = Enterprise::new(setup.path("new"));
    let url = serve(&new).await;
    let program = setup.path("ask-ca");
    let text = fs::read_to_string(&program).unwrap();
    let line = text.lines().find(|line| line.starts_with("CA_URL="));
    let text = text.replace(line.unwrap(), &format!("CA_URL={url}"));
    fs::write(&program, text).unwrap();
    rotate(&setup, &server, &["start", "--kind", "upstream-root"]).unwrap();
    wait_for_state(&setup, &server, "received").await;
    eventually(PATIENCE, "whose move it is", async || {
        let explained = rotate(&setup, &server, &["explain"]).unwrap();
        let held = &explained["held"][0];
        let why = held["why"].as_str().unwrap();
        held["whose"] == "operator" && why.contains("rootbridge anchors approve sha256:")
    })
    .await;
    let force = ["advance", "--force", "--reason", "impatience"];
    let refused = rotate(&setup, &server, &force).unwrap_err();
    assert!(refused.contains("cannot be forced"), "{refused}");

    // It is approved, and published for longer than `publish_first`: nobody has said that it signs.
    let both = old.root.pem() + &new.root.pem();
    fs::write(setup.path(&format!("{TD}.pem")), both).unwrap();
    setup.cli(&["anchors", "approve", &fingerprint(&new.root.pem())]);
    wait_for_problem(&setup, &server, "rotation 1 says when it signs").await;
    let span = Duration::from_secs(2);
    stays(span, "the old one signs", async || {
        renew(&setup, &server).await;
        used(&setup) == 1
    })
    .await;
    for phase in ["publish", "converge"] {
        reach(&setup, &server, phase).await;
    }
    assert_eq!(used(&setup), 1);
    assert_eq!(renew(&setup, &server).await.roots.len(), 2);

    reach(&setup, &server, "activate").await;
    let middle = parse_pem_chain(new.middle.pem().as_bytes()).unwrap();
    eventually(PATIENCE, "the new issuing CA signs", async || {
        renew(&setup, &server).await.above.contains(&middle[0])
    })
    .await;
    assert_eq!(used(&setup), 2);
    assert!(status(&setup, &server).await["request"].is_null());
    for phase in ["drain", "retire", "done"] {
        reach(&setup, &server, phase).await;
    }
    let root = parse_pem_chain(new.root.pem().as_bytes()).unwrap();
    eventually(PATIENCE, "the old root has left", async || {
        renew(&setup, &server).await.roots == root
    })
    .await;
    let listed = issuers(&setup);
    let states: Vec<_> = listed.iter().map(|issuer| &issuer["state"]).collect();
    assert_eq!(states, ["retired", "active"]);
    assert_eq!(new.submissions(), 1);
    server.stop().await;
}
