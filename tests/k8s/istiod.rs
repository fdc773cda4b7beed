//! istiod's own certificate: made, verified, put back, renewed.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use rootbridge::x509::{Certificate, parse_pem_chain};
use serde_json::json;

use super::server::shared;
use super::signing::Scene;
use super::support::{PATIENCE, eventually, openssl};

const NAME: &str = "istiod-tls";

fn section(namespace: &str) -> String {
    format!(
        "\n[istiod_tls.main]\ncluster = \"east\"\nnamespace = \"{namespace}\"\nrevision = \"1-28\"\n"
    )
}

fn data(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().unwrap();
    String::from_utf8(data[key].0.clone()).unwrap()
}

fn leaf(secret: &Secret) -> Certificate {
    parse_pem_chain(data(secret, "tls.crt").as_bytes())
        .unwrap()
        .remove(0)
}

/// The secret, once it is there and `right` says so.
async fn secret(api: &Api<Secret>, what: &str, right: impl Fn(&Secret) -> bool) -> Secret {
    let mut found = None;
    eventually(PATIENCE, what, async || {
        found = api.get_opt(NAME).await.unwrap().filter(&right);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_made_and_kept() {
    let scene = Scene::new(shared(), "istiod-kept", &section("istiod-kept")).await;
    let api: Api<Secret> = Api::namespaced(scene.admin.clone(), &scene.namespace);
    let running = scene.line.serve().await;
    let first = secret(&api, "the secret", |_| true).await;
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(data(&first, "ca.crt"), scene.line.roots("cluster.local"));

    // As istiod's clients look at it.
    let file = |key: &str| {
        let path = scene.line.path(&format!("istiod-{key}"));
        std::fs::write(&path, data(&first, key)).unwrap();
        path
    };
    for host in ["istiod.istiod-kept.svc", "istiod-1-28.istiod-kept.svc"] {
        openssl::run(
            Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", "sslserver"])
                .args(["-verify_hostname", host, "-CAfile"])
                .arg(file("ca.crt"))
                .arg("-untrusted")
                .arg(file("tls.crt"))
                .arg(file("tls.crt")),
        );
    }
    let names: Vec<_> = leaf(&first)
        .names()
        .iter()
        .map(ToString::to_string)
        .collect();
    let id = "spiffe://cluster.local/ns/istiod-kept/sa/istiod-service-account";
    assert!(names.iter().any(|name| name == id), "{names:?}");
    let of_key = openssl::run(
        Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(file("tls.key")),
    );
    let of_certificate = openssl::run(
        Command::new("openssl")
            .args(["x509", "-pubkey", "-noout", "-in"])
            .arg(file("tls.crt")),
    );
    assert_eq!(of_key, of_certificate);

    // Deleted, then edited: put right, with another key.
    let serial = |secret: &Secret| leaf(secret).serial().to_string();
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let second = secret(&api, "it is back", |_| true).await;
    assert_ne!(serial(&first), serial(&second));
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        let patch = Patch::Merge(json!({ "stringData": { key: "nonsense" } }));
        api.patch(NAME, &PatchParams::default(), &patch)
            .await
            .unwrap();
        secret(&api, key, |secret| data(secret, key) != "nonsense").await;
    }
    // What others add is left alone.
    let patch = Patch::Merge(json!({ "stringData": { "theirs": "kept" } }));
    api.patch(NAME, &PatchParams::default(), &patch)
        .await
        .unwrap();

    // Right as it is: a restart changes nothing.
    let last = secret(&api, "theirs", |secret| {
        data(secret, "ca.crt").contains("BEGIN")
    })
    .await;
    running.stop().await;
    let running = scene.line.serve().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let now = api.get(NAME).await.unwrap();
    assert_eq!(serial(&now), serial(&last));
    assert_eq!(data(&now, "theirs"), "kept");

    let log = running.log();
    for line in data(&now, "tls.key")
        .lines()
        .filter(|line| !line.starts_with('-'))
    {
        assert!(!log.contains(line), "the key is in the log");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_in_time() {
    let profile =
        "\n[profiles.istiod]\ndefault_ttl = \"10s\"\nbackdate = \"1s\"\nusages = [\"server\"]\n";
    let more = format!("{}{profile}", section("istiod-renewed"));
    let scene = Scene::new(shared(), "istiod-renewed", &more).await;
    let api: Api<Secret> = Api::namespaced(scene.admin.clone(), &scene.namespace);
    let running = scene.line.serve().await;
    let mut last = secret(&api, "the secret", |_| true).await;
    for _ in 0..2 {
        let before = leaf(&last);
        let next = secret(&api, "its successor", |secret| {
            leaf(secret).serial() != before.serial()
        })
        .await;
        assert!(
            leaf(&next).not_before() < before.not_after(),
            "without a gap"
        );
        last = next;
    }
    running.stop().await;
}
