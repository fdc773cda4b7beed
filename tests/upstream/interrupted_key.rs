//! A generation of the issuing key that was interrupted: what it left in the token is not used, and
//! does not stop the request.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use rootbridge::clock::SystemClock;
use rootbridge::ledger::{
    Actor, CaRequestChange, Change, KeyLocation, Ledger as _, OpenMode, Sqlite,
};
use rootbridge::x509::KeyKind;
use rootbridge_test_support::command::run;
use rootbridge_test_support::{TD, TestServer, softhsm};

use crate::authority::{approve, configure, issue, issuers, wait_for_state};
use crate::enterprise::Enterprise;

const KEY_ID: &[u8] = &[0x6f, 3];

/// Records a request that plans a key with [`KEY_ID`].
async fn plan(setup: &TestServer) {
    let ledger = Sqlite::open(
        setup.path("ledger.db"),
        OpenMode::Shared,
        Arc::new(SystemClock),
    );
    let ledger = ledger.await.unwrap();
    let by = Actor {
        name: "a server that was killed".into(),
        via: "server".into(),
        lease: None,
    };
    let trust_domain: rootbridge::x509::TrustDomain = TD.parse().unwrap();
    let create = Change::CreateAuthority {
        trust_domain: trust_domain.clone(),
    };
    ledger.apply(create, &by).await.unwrap();
    let begin = CaRequestChange::Begin {
        trust_domain,
        upstream: "corp".into(),
        location: KeyLocation {
            token: "main".into(),
            token_serial: String::new(),
            key_id: KEY_ID.to_vec(),
            label: format!("rootbridge {TD} issuing"),
        },
        kind: KeyKind::EcdsaP256,
        path_len: Some(0),
        issuer: None,
    };
    ledger.apply(Change::Request(begin), &by).await.unwrap();
    ledger.close().await;
}

fn pkcs11_tool(setup: &TestServer, arguments: &[&str]) {
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let mut tool = Command::new("pkcs11-tool");
    tool.env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"));
    tool.arg("--module").arg(softhsm::module());
    tool.args(["--token-label", "rootbridge", "--login", "--pin", &pin]);
    run(tool.args(arguments));
}

/// A pair of which the token has lost one object.
async fn half_a_pair_is_left_alone(lost: &str, says: &str) {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    configure(&setup, &ca, "").await;
    plan(&setup).await;
    let generate = [
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--id",
        "6f03",
    ];
    pkcs11_tool(&setup, &generate);
    pkcs11_tool(&setup, &["--delete-object", "--type", lost, "--id", "6f03"]);

    let server = setup.start().await;
    let request = wait_for_state(&setup, &server, "received").await;
    assert_eq!(request["request"], 1, "it goes on");
    // A counter that begins at one shows no growth.
    let refused = "rootbridge_upstream_answers_total{upstream=\"corp\",answer=\"refused\"}";
    assert_eq!(server.metric(refused).await, Some(0.0));
    approve(&setup, &ca);
    server.ready().await;
    issue(&setup, &server).await;
    let listed = issuers(&setup);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_ne!(listed[0]["key_id"], "6f03");
    let log = server.log();
    let relocated = log.lines().find(|line| line.contains("upstream.relocated"));
    let relocated: serde_json::Value = serde_json::from_str(relocated.unwrap()).unwrap();
    assert_eq!(relocated["old"], "6f03", "where what is left lies");
    let reason = relocated["reason"].as_str().unwrap();
    assert!(reason.contains(says), "{reason}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_without_its_private_key_does_not_stop_a_request() {
    half_a_pair_is_left_alone("privkey", "already has an object").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_without_its_public_key_does_not_stop_a_request() {
    half_a_pair_is_left_alone("pubkey", "public key").await;
}
