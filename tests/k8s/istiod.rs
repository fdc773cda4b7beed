//! istiod's own certificate: made, verified, put back, renewed.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use rootbridge::x509::{Certificate, parse_pem_chain};
use serde_json::json;

use super::objects::{create, granted, namespace, rule};
use super::server::shared;
use super::signing::Scene;
use rootbridge_test_support::{PATIENCE, TD, command, eventually, openssl};

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
async fn the_secret_is_created_and_reconciled() {
    let scene = Scene::new(shared(), "istiod-kept", &section("istiod-kept")).await;
    let api: Api<Secret> = Api::namespaced(scene.admin.clone(), &scene.namespace);
    let running = scene.setup.serve().await;
    let first = secret(&api, "the secret", |_| true).await;
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(data(&first, "ca.crt"), scene.setup.roots("cluster.local"));

    // As istiod's clients look at it.
    let file = |key: &str| {
        let path = scene.setup.path(&format!("istiod-{key}"));
        std::fs::write(&path, data(&first, key)).unwrap();
        path
    };
    for host in ["istiod.istiod-kept.svc", "istiod-1-28.istiod-kept.svc"] {
        command::run(
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
    let of_key = command::run(
        Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(file("tls.key")),
    );
    let of_certificate = command::run(
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
    let running = scene.setup.serve().await;
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
    let running = scene.setup.serve().await;
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

/// What cannot be written is not signed first: no namespace, then a secret of another type.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_that_cannot_be_written() {
    let scene = Scene::new(shared(), "istiod-early", &section("istiod-late")).await;
    // The chart's Role is in a namespace: where there is none, only a ClusterRole shows more
    // than a refusal.
    let rules = vec![
        rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "patch"],
            &[NAME],
        ),
        rule("", &["secrets"], &["create"], &[]),
    ];
    let wide = granted(&scene.admin, "istiod-early", "wide", rules).await;
    let kubeconfig = shared().kubeconfig(&wide);
    std::fs::write(scene.setup.path("east.kubeconfig"), kubeconfig).unwrap();
    let running = scene.setup.serve().await;
    running.wait_for_log("404 NotFound").await;
    namespace(&scene.admin, "istiod-late").await;
    let api: Api<Secret> = Api::namespaced(scene.admin.clone(), "istiod-late");
    let made = secret(&api, "the secret", |_| true).await;
    running.stop().await;

    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let foreign =
        json!({ "metadata": { "name": NAME }, "type": "Opaque", "stringData": { "a": "b" } });
    create(&api, foreign).await;
    let running = scene.setup.serve().await;
    running.wait_for_log("field is immutable").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rows = scene.setup.certificates(&[]);
    let ours = rows.iter().filter(|row| row["profile"] == "istiod");
    assert_eq!(ours.count(), 1);
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    let again = secret(&api, "the secret again", |secret| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key("tls.crt"))
    })
    .await;
    assert_ne!(leaf(&made).serial(), leaf(&again).serial());
    running.stop().await;
}

/// Another bundle: in the secret a moment later. Another issuer: a certificate from it.
#[tokio::test(flavor = "multi_thread")]
async fn it_follows_the_bundle_and_the_issuer() {
    let scene = Scene::new(shared(), "istiod-moved", &section("istiod-moved")).await;
    let api: Api<Secret> = Api::namespaced(scene.admin.clone(), &scene.namespace);
    let running = scene.setup.serve().await;
    let first = secret(&api, "the secret", |_| true).await;
    let setup = &scene.setup;
    let enterprise = openssl::OpensslCa::new(&setup.path(""), "enterprise");
    let root = setup.path("enterprise-root.pem");
    std::fs::write(&root, enterprise.pem()).unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
    let second = secret(&api, "both roots", |secret| {
        data(secret, "ca.crt").matches("BEGIN").count() == 2
    })
    .await;
    assert_eq!(leaf(&first).issuer(), leaf(&second).issuer());

    let csr = setup.cli(&[
        "ca",
        "request",
        "--trust-domain",
        TD,
        "--organization",
        "Other",
    ]);
    let chain = setup.path("chain.pem");
    std::fs::write(&chain, enterprise.certify(&csr, 0) + &enterprise.pem()).unwrap();
    setup.cli(&["ca", "import", chain.to_str().unwrap()]);
    secret(&api, "the new issuer's", |secret| {
        leaf(secret).issuer() != leaf(&second).issuer()
    })
    .await;
    running.stop().await;
}
