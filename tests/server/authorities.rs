//! Authorities come whole or not at all, and what has never issued can be removed.

use std::fs;

use reqwest::Method;
use serde_json::Value;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

const WRONG: &str = "clutser.local";

fn rows(setup: &TestServer, arguments: &[&str]) -> Vec<Value> {
    let text = setup.cli(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// What a command that must fail says, in one line.
#[track_caller]
fn refused(setup: &TestServer, arguments: &[&str], code: i32) -> String {
    let output = setup.try_cli(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_a_wrong_name_is_removed() {
    let setup = TestServer::bare();
    for command in ["init", "request"] {
        let wrong_token = ["ca", command, "--trust-domain", TD, "--token", "nowhere"];
        let message = refused(&setup, &wrong_token, 4);
        assert!(message.contains("nowhere"), "{message}");
        assert_eq!(rows(&setup, &["authority", "list"]), [] as [Value; 0]);
    }
    setup.init(TD, &[]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let issue = async || {
        client
            .istio(&token, &KeyAndCsr::workload("foo", "bar"))
            .await
    };
    issue().await.unwrap();

    // One that only has a request, and one with a root that is published.
    let ready = format!("rootbridge_issuer_ready{{trust_domain=\"{WRONG}\"}}");
    let is_known = async |expected: bool| {
        eventually(PATIENCE, "the server knows what is on record", async || {
            server.metric(&ready).await.is_some() == expected
        })
        .await;
    };
    let bundle = async || {
        let url = format!(
            "https://localhost:{}/v1/trust-bundles/{WRONG}",
            server.port()
        );
        let root = reqwest::Certificate::from_pem(setup.roots(TD).as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([root]).build();
        http.unwrap().get(url).send().await.unwrap().status()
    };
    let keys = rows(&setup, &["key", "list"]).len();
    for ceremony in ["request", "init"] {
        setup.cli(&["ca", ceremony, "--trust-domain", WRONG]);
        is_known(true).await;
        if ceremony == "init" {
            eventually(PATIENCE, "its bundle", async || bundle().await == 200).await;
        }
        let listed = rows(&setup, &["authority", "list"]);
        assert_eq!(listed[1]["trust_domain"], WRONG);
        assert_eq!(listed[1]["issuer"].is_string(), ceremony == "init");
        setup.cli(&["authority", "remove", WRONG, "--reason", "a typing error"]);
        is_known(false).await;
        eventually(PATIENCE, "no bundle", async || bundle().await == 404).await;
        assert_eq!(rows(&setup, &["authority", "list"]).len(), 1);
    }
    let destroyed = rows(&setup, &["key", "prune", "--yes"]);
    assert_eq!(destroyed.len(), 3, "{destroyed:?}");
    let label = |key: &Value| key["label"].as_str().unwrap().contains(WRONG);
    assert!(destroyed.iter().all(label), "{destroyed:?}");
    assert_eq!(rows(&setup, &["key", "list"]).len(), keys);
    let checked = setup.try_cli(&["check", "-o", "short"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.contains(WRONG), "{checked}");

    let message = refused(&setup, &["authority", "remove", TD], 5);
    assert!(message.contains("has issued"), "{message}");
    let message = refused(&setup, &["authority", "remove", WRONG], 5);
    assert!(message.contains(WRONG), "{message}");
    issue().await.unwrap();
    server.stop().await;
}

/// `ca request` and `ca import` instead of a rotation: what no longer signs is not called active, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuing_ca_that_was_replaced_by_hand_is_retired() {
    let setup = TestServer::new();
    let own = setup.roots(TD);
    let clock = FakeClock::new(&setup, "+0");
    let server = setup.start_with(clock.serve(&setup)).await;
    server.ready().await;
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let root = setup.path("root.pem");
    fs::write(&root, enterprise.pem()).unwrap();
    let root = root.to_str().unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "corp"];
    setup.cli(&[&add[..], &[root]].concat());
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let chain = setup.path("chain.pem");
    fs::write(&chain, enterprise.certify(&csr, 0) + &enterprise.pem()).unwrap();
    setup.cli(&["ca", "import", chain.to_str().unwrap()]);
    fs::write(setup.path(&format!("{TD}.pem")), own + &enterprise.pem()).unwrap();

    let issuing = || {
        let mut found = rows(&setup, &["ca", "list"]);
        found.retain(|row| row["role"] == "issuing");
        found
    };
    let [old, new] = issuing().try_into().unwrap();
    assert_eq!(
        (&old["signs"], &new["signs"]),
        (&false.into(), &true.into())
    );
    let id = old["issuer"].as_str().unwrap();
    let table = setup.cli(&["ca", "list"]);
    let line = table.lines().find(|line| line.contains(id)).unwrap();
    assert!(line.contains("replaced"), "{table}");

    // The listener's own certificate was the last.
    eventually(PATIENCE, "the new issuing CA", async || {
        let text = server.admin_request(Method::GET, "/v1/status", Some(&setup.operator));
        let status: Value = serde_json::from_str(&text.await.1).unwrap();
        status["authorities"][0]["issuer"] == new["issuer"]
    })
    .await;
    assert_eq!(issuing()[0]["state"], "active", "a certificate is alive");
    // A week after the last certificate of a listener.
    clock.move_to("+9d").await;
    eventually(PATIENCE, "the old one's end", async || {
        issuing()[0]["state"] == "retired"
    })
    .await;
    assert_eq!(issuing()[1]["state"], "active");
    server.wait_for_log("issuer.retired").await;
    server.stop().await;
}
