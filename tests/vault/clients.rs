//! The clients that others use: Vault's and OpenBao's own in Go, and vaultrs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rcgen::KeyPair;
use rootbridge_test_support::TD;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::repository;
use serde_json::{Value, json};
use vaultrs::client::{Client as _, VaultClient, VaultClientSettingsBuilder};

use crate::harness::VaultServer;
use crate::intermediates::ca_csr;
use crate::leaves::verified;

/// What `tests/vault-client` saw.
async fn go(world: &VaultServer, library: &'static str) -> Value {
    let key = KeyPair::generate().unwrap();
    let input = json!({
        "library": library,
        "address": world.client.url,
        "roots": world.setup.path(&format!("{TD}.pem")),
        "role_id": "admin",
        "secret_id": world.setup.operator,
        "mount": "pki",
        "csr": KeyAndCsr::new(&["a.shop.svc"]).pem,
        "ca_csr": ca_csr(&key, &format!("spiffe://{TD}"), None),
    });
    let call = move || {
        let program = repository("build/interop/vault-client");
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", program.display()));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{library}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    tokio::task::spawn_blocking(call).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_and_openbaos_own_clients_are_served() {
    let world = VaultServer::start().await;
    let seen = go(&world, "vault").await;
    assert_eq!(
        (&seen["sealed"], &seen["initialized"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&seen["login_lease"], &seen["renewable"]),
        (&json!(3600), &json!(true))
    );
    assert!(seen["ttl"].as_f64().unwrap() > 0.0);
    assert_eq!(seen["renewed"], 600);
    let mut mounts: Vec<&str> = seen["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each.as_str().unwrap())
        .collect();
    mounts.sort_unstable();
    assert_eq!(
        mounts,
        ["connect-inter/ pki", "connect-root/ pki", "pki/ pki"]
    );
    assert_eq!(seen["role"]["max_ttl"], 90 * 86_400);
    assert!(
        seen["warnings"]
            .to_string()
            .contains("max_ttl is more than the profile's")
    );
    assert_eq!(seen["roles"], json!(["short"]));
    assert!(
        seen["ca"]["certificate"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE")
    );
    assert_eq!(
        verified(&seen["signed"]).names()[0].to_string(),
        "dns:a.shop.svc"
    );
    assert!(verified(&seen["signed_ca"]).is_ca());
    let refused = seen["refused"].as_str().unwrap();
    assert!(
        refused.contains("Code: 400") && refused.contains("names something else"),
        "{refused}"
    );
    let revoked = seen["after_revoke"].as_str().unwrap();
    assert!(
        revoked.contains("Code: 403") && revoked.contains("permission denied"),
        "{revoked}"
    );

    let seen = go(&world, "openbao").await;
    assert_eq!(seen["renewable"], true);
    assert_eq!(
        verified(&seen["signed"]).names()[0].to_string(),
        "dns:a.shop.svc"
    );
    with_vaultrs(&world).await;
    world.server.stop().await;
}

async fn with_vaultrs(world: &VaultServer) {
    let settings = VaultClientSettingsBuilder::default()
        .address(&world.client.url)
        .ca_certs(vec![
            world.setup.path(&format!("{TD}.pem")).display().to_string(),
        ])
        .token("")
        .build()
        .unwrap();
    let mut client = VaultClient::new(settings).unwrap();
    let health = vaultrs::sys::health(&client).await.unwrap();
    assert!(health.initialized && !health.sealed);
    let auth = vaultrs::auth::approle::login(&client, "approle", "admin", &world.setup.operator);
    let auth = auth.await.unwrap();
    world
        .setup
        .issuer
        .minted
        .lock()
        .unwrap()
        .push(auth.client_token.clone());
    client.set_token(&auth.client_token);
    let lookup = vaultrs::token::lookup_self(&client).await.unwrap();
    assert_eq!(
        (lookup.display_name.as_str(), lookup.renewable),
        ("operator:admin", Some(true))
    );
    vaultrs::pki::role::set(&client, "pki", "web", None)
        .await
        .unwrap();
    let role = vaultrs::pki::role::read(&client, "pki", "web")
        .await
        .unwrap();
    assert_eq!((role.ttl, role.require_cn), (86_400, false));
    assert_eq!(
        vaultrs::pki::role::list(&client, "pki").await.unwrap().keys,
        ["short"]
    );
    let csr = KeyAndCsr::new(&["a.shop.svc"]).pem;
    let signed =
        vaultrs::pki::cert::ca::sign(&client, "pki", "web", &csr, "a.shop.svc", None).await;
    verified(&serde_json::to_value(signed.unwrap()).unwrap());
    let made =
        vaultrs::pki::cert::ca::int::generate(&client, "connect-inter", "internal", "x", None);
    let csr = made.await.unwrap().csr;
    let signed =
        vaultrs::pki::cert::ca::sign_intermediate(&client, "connect-root", &csr, "x", None);
    assert_eq!(signed.await.unwrap().ca_chain.unwrap().len(), 1);
    let issuers = vaultrs::pki::issuer::list(&client, "pki").await.unwrap();
    assert_eq!(issuers.keys.len(), 1);
}
