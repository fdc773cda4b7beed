//! Kryoptic as the token: a module in Rust over OpenSSL that shares no code with SoftHSM, keeps its
//! objects in one SQLite file and reports attributes as the standard has them.

use std::fs;
use std::process::Command;

use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{TestServer, files, softhsm};
use serde_json::Value;

const DOMAIN: &str = "cluster.local";

/// A new token in Kryoptic instead of SoftHSM's.
fn configure(setup: &TestServer) {
    let module = files::repository("build/kryoptic/libkryoptic_module.so");
    let store = setup.path("kryoptic.sql");
    let secret = |name: &str| fs::read_to_string(setup.path(name)).unwrap();
    let (pin, officer) = (secret("token/pin"), secret("token/so-pin"));
    let tool = |arguments: &[&str]| {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(&module).args(arguments);
        run(command.env("KRYOPTIC_CONF", &store));
    };
    let label = ["--slot-index", "0", "--label", "rootbridge"];
    tool(&[&["--init-token", "--so-pin", &officer], &label[..]].concat());
    let login = ["--login", "--login-type", "so", "--so-pin", &officer];
    let user = ["--init-pin", "--new-pin", &pin];
    tool(&[&login[..], &user[..]].concat());
    let soft = format!("module = \"{}\"", softhsm::module().display());
    setup.edit(&soft, &format!("module = \"{}\"", module.display()));
    setup.edit(
        "environment = { ",
        &format!("environment = {{ KRYOPTIC_CONF = \"{}\", ", store.display()),
    );
}

#[tokio::test]
async fn a_ca_in_kryoptic_issues() {
    let setup = TestServer::bare();
    configure(&setup);
    setup.init(DOMAIN, &[]);
    for kind in ["ecdsa-p384", "rsa-2048"] {
        setup.init(&format!("{kind}.example"), &["--key", kind]);
    }
    let keys: Value = serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 6);
    for key in keys {
        for attribute in ["local", "always_sensitive", "never_extractable"] {
            assert_eq!(key[attribute], true, "{key}");
        }
        assert!(key["use"].as_str().unwrap().ends_with("active"), "{key}");
    }
    let check = setup.cli(&["check"]);
    assert_eq!(check.matches("a test signature took").count(), 3, "{check}");

    // Over a restart, from both workers at once.
    for _ in 0..2 {
        let server = setup.serve().await;
        let token = setup.issuer.istio("shop", "cart");
        let client = server.client(DOMAIN).await;
        let calls = (0..16).map(|_| async {
            let csr = KeyAndCsr::workload("shop", "cart");
            client.istio(&token, &csr).await.unwrap()
        });
        for chain in futures_util::future::join_all(calls).await {
            assert_eq!(chain.names(), ["spiffe://cluster.local/ns/shop/sa/cart"]);
        }
        server.stop().await;
    }
}
