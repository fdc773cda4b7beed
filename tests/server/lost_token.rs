//! The token with every key of an authority is destroyed: a new root in another one.

use std::fs;
use std::process::Command;

use rootbridge::digest::hex;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::Value;

use crate::rotation_servers::rotate;

/// Makes a second token beside the first.
fn second_token(setup: &TestServer) {
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let mut tool = Command::new("softhsm2-util");
    tool.env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"));
    tool.args([
        "--init-token",
        "--free",
        "--label",
        "second",
        "--so-pin",
        "12345678",
        "--pin",
        &pin,
    ]);
    run(&mut tool);
    setup.edit(
        "[listeners.mesh]\n",
        &format!(
            "[hsm.tokens.spare]\nlabel = \"second\"\npin_file = \"{}\"\n\n[listeners.mesh]\n",
            setup.path("token/pin").display()
        ),
    );
}

/// Removes the token whose files are there now.
fn destroy(tokens: &[std::path::PathBuf]) {
    for token in tokens {
        fs::remove_dir_all(token).unwrap();
    }
}

fn tokens(setup: &TestServer) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(setup.path("token/tokens")).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

/// From a lost token to the first certificate below a new root, by the documented command.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_goes_on_after_its_token_is_destroyed() {
    let setup = TestServer::new();
    let first = tokens(&setup);
    assert_eq!(first.len(), 1);
    second_token(&setup);
    let server = setup.serve().await;
    let (token, csr) = (
        setup.issuer.istio("shop", "web"),
        KeyAndCsr::workload("shop", "web"),
    );
    let before = server.client(TD).await.istio(&token, &csr).await.unwrap();
    server.stop().await;

    destroy(&first);
    let server = setup.start().await;
    let lost = [
        "lost-token",
        "--token",
        "spare",
        "--reason",
        "INC-9: the HSM has burned",
    ];
    let unknown = [
        "lost-token",
        "--token",
        "nowhere",
        "--reason",
        "INC-9",
        "--yes",
    ];
    // The admin port answers without a token.
    eventually(PATIENCE, "the admin port", async || {
        rotate(&setup, &server, &["status"]).is_ok()
    })
    .await;
    let asked = rotate(&setup, &server, &lost).unwrap_err();
    let asked = asked.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "spiffe://cluster.local/ns/shop/sa/web: alive, until",
        "made in token spare",
        "nothing was changed",
    ] {
        assert!(asked.contains(part), "no {part} in: {asked}");
    }
    assert_eq!(
        rotate(&setup, &server, &["status", "--all"]).unwrap(),
        Value::Array(Vec::new())
    );

    let refused = rotate(&setup, &server, &unknown).unwrap_err();
    assert!(refused.contains("nowhere"), "{refused}");
    let done = rotate(&setup, &server, &[&lost[..], &["--yes"]].concat()).unwrap();
    assert_eq!(done["rotation"], 1);
    // The new root is published beside the old one, and the new issuing CA signs, without an operator.
    eventually(PATIENCE, "the new issuing CA signs", async || {
        let status = rotate(&setup, &server, &["status"]).unwrap();
        status[0]["phase"] == "drain"
    })
    .await;
    let status = rotate(&setup, &server, &["status"]).unwrap();
    let new = status[0]["new_anchor"].as_str().unwrap().to_owned();
    let forced = status[0]["steps"].as_array().unwrap().iter();
    let forced: Vec<_> = forced.filter(|step| !step["forced"].is_null()).collect();
    assert_eq!(forced.len(), 1, "{forced:?}");
    assert_eq!(forced[0]["phase"], "activate");

    // Clients are given the new root by its fingerprint.
    let url = format!("https://localhost:{}/v1/trust-bundles/{TD}", server.port());
    let (fingerprint, roots) = (format!("sha256:{new}"), setup.path("new-roots.pem"));
    let roots = roots.display().to_string();
    let fetch = [
        "bundle",
        "fetch",
        &url,
        "--fingerprint",
        &fingerprint,
        "--out",
        &roots,
    ];
    eventually(PATIENCE, "the listener's certificate", async || {
        setup.try_cli(&fetch).status.success()
    })
    .await;
    fs::copy(&roots, setup.path(&format!("{TD}.pem"))).unwrap();
    let after = server.client(TD).await.istio(&token, &csr).await.unwrap();
    assert_ne!(after.leaf.issuer(), before.leaf.issuer());
    let published: Vec<_> = after
        .roots
        .iter()
        .map(|root| hex(&root.fingerprint()))
        .collect();
    assert_eq!(published.len(), 2);
    assert_eq!(published.iter().filter(|each| **each == new).count(), 1);
    server.stop().await;
}
