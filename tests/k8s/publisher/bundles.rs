//! ClusterTrustBundles, and what is never published.

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{Cluster, ISTIO, NAME, PATIENCE, published, rules, stands};
use crate::objects::rule;
use rootbridge_test_support::{TestServer, eventually};

const BUNDLE: &str = "example.com:mesh:bundle";
const TARGET: &str = r#"
[bundle_targets.pods]
trust_domain = "cluster.local"
clusters = ["east"]
kind = "cluster-trust-bundle"
name = "example.com:mesh:bundle"
signer_name = "example.com/mesh"
labels = { "example.com/trust" = "mesh" }

[publisher]
lease_duration = "5s"
"#;

/// Another CA's root, PEM.
pub(super) fn other_root() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_trust_bundle_needs_attest_and_is_reconciled() {
    let lease = rules(NAME).split_off(2);
    let bundles = rule(
        "certificates.k8s.io",
        &["clustertrustbundles"],
        &["list", "watch", "patch", "create"],
        &[BUNDLE],
    );
    let few: Vec<_> = lease.into_iter().chain([bundles]).collect();
    let attest = rule(
        "certificates.k8s.io",
        &["signers"],
        &["attest"],
        &["example.com/mesh"],
    );
    let cluster = Cluster::start(few.clone()).await;
    let setup = cluster.setup(TARGET);
    let server = setup.serve().await;
    let refused = stands(&setup, &server, "no right to attest", |status| {
        status["failing"] == 1
    })
    .await;
    assert!(
        refused["error"].as_str().unwrap().contains("attest"),
        "{refused}"
    );

    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(cluster.client.clone());
    let all: Vec<_> = few.into_iter().chain([attest]).collect();
    let patch = Patch::Merge(json!({ "rules": all }));
    let params = PatchParams::default();
    roles
        .patch("rootbridge-rootbridge", &params, &patch)
        .await
        .unwrap();
    stands(&setup, &server, "published", |status| {
        status["in_step"] == 1 && status["applied"]["sequence"] == 1
    })
    .await;
    let api: Api<ClusterTrustBundle> = Api::all(cluster.client.clone());
    let pem = published(&setup);
    let stands_there = async || {
        let found = api.get_opt(BUNDLE).await.unwrap();
        found.is_some_and(|bundle| bundle.spec.trust_bundle == pem)
    };
    assert!(stands_there().await);
    let found = api.get(BUNDLE).await.unwrap();
    assert_eq!(found.spec.signer_name.as_deref(), Some("example.com/mesh"));
    assert_eq!(found.metadata.labels.unwrap()["example.com/trust"], "mesh");

    let edit = Patch::Merge(json!({ "spec": { "trustBundle": other_root() } }));
    api.patch(BUNDLE, &params, &edit).await.unwrap();
    eprintln!(
        "an edit: {:?}",
        eventually(PATIENCE, "repaired", stands_there).await
    );
    api.delete(BUNDLE, &DeleteParams::default()).await.unwrap();
    eprintln!(
        "a deletion: {:?}",
        eventually(PATIENCE, "made again", stands_there).await
    );
    server.stop().await;
}

/// The ledger enforces it: an anchor that an issuer needs cannot be retired, so no bundle without it
/// exists, and the published one is unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_in_use_is_not_dropped() {
    let cluster = Cluster::of_chart().await;
    let setup = cluster.setup(ISTIO);
    let server = setup.serve().await;
    let pem = published(&setup);
    cluster.has("default", &pem, PATIENCE).await;
    let anchors: serde_json::Value =
        serde_json::from_str(&setup.cli(&["anchors", "list", "-o", "json"])).unwrap();
    let print = anchors[0]["sha256"].as_str().unwrap();
    let message = setup.refused(&[
        "anchors",
        "remove",
        print,
        "--trust-domain",
        "cluster.local",
    ]);
    assert!(message.contains("is active"), "{message}");

    std::fs::write(setup.path("other.pem"), other_root()).unwrap();
    let file = setup.path("other.pem").display().to_string();
    super::add_anchor(&setup, &file);
    let message = setup.refused(&[
        "anchors",
        "remove",
        print,
        "--trust-domain",
        "cluster.local",
    ]);
    assert!(message.contains("is active"), "{message}");
    eventually(PATIENCE, "both anchors", async || {
        let found = cluster.pem("default").await.unwrap_or_default();
        found.starts_with(&pem) && found.len() > pem.len()
    })
    .await;
    server.stop().await;
}

/// Java reads the truststore in either format; an edit of its bytes is put back, and a restart
/// writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn java_reads_the_truststore() {
    let cluster = Cluster::start(rules("java-trust")).await;
    let target = r#"
[bundle_targets.java]
trust_domain = "cluster.local"
clusters = ["east"]
name = "java-trust"
key = "truststore.pkcs12"
format = "pkcs12"
namespaces = "kubernetes.io/metadata.name=default"

[publisher]
lease_duration = "5s"
"#;
    let setup = cluster.setup(target);
    std::fs::write(setup.path("other.pem"), other_root()).unwrap();
    super::add_anchor(&setup, &setup.path("other.pem").display().to_string());
    let maps = cluster.maps("default");
    for format in ["pkcs12", "jks"] {
        if format == "jks" {
            setup.edit("truststore.pkcs12", "truststore.jks");
            setup.edit("format = \"pkcs12\"", "format = \"jks\"");
        }
        let key = format!("truststore.{format}");
        let server = setup.serve().await;
        stands(&setup, &server, "one", |status| status["in_step"] == 1).await;
        let bytes = async || {
            let map = maps.get("java-trust").await.unwrap();
            let mut data = map.binary_data.unwrap();
            assert_eq!(data.len(), 1, "what was there in another format is gone");
            data.remove(&key).unwrap().0
        };
        let first = bytes().await;
        // Java reads either format under either name.
        let is_jks = first.starts_with(&[0xfe, 0xed, 0xfe, 0xed]);
        assert_eq!(is_jks, format == "jks");
        let file = setup.path(&key);
        std::fs::write(&file, &first).unwrap();
        let listed = java_lists(&file, format);
        assert_eq!(listed.matches("trustedCertEntry").count(), 2, "{listed}");
        let anchors = setup.cli(&["anchors", "list", "-o", "json"]);
        let anchors: serde_json::Value = serde_json::from_str(&anchors).unwrap();
        for anchor in anchors.as_array().unwrap() {
            let print = anchor["sha256"].as_str().unwrap();
            assert!(listed.contains(print), "{print} is not in {listed}");
        }

        let edit = Patch::Merge(json!({ "binaryData": { key.as_str(): "AAAA" } }));
        maps.patch("java-trust", &PatchParams::default(), &edit)
            .await
            .unwrap();
        eventually(PATIENCE, "repaired", async || bytes().await == first).await;
        server.stop().await;
        // Other salts, the same bundle: nothing to write.
        let server = setup.serve().await;
        let again = stands(&setup, &server, "in step", |status| status["in_step"] == 1).await;
        assert_eq!(again["writes"], 0);
        assert_eq!(bytes().await, first);
        // `check` compares by the same rule as the publisher.
        let item = "east bundle java";
        assert_eq!(check_item(&setup, item).0, "ok", "{format}");
        server.stop().await;
        maps.patch("java-trust", &PatchParams::default(), &edit)
            .await
            .unwrap();
        let edited = check_item(&setup, item);
        assert!(edited.1.contains("default: another bundle"), "{edited:?}");
        maps.delete("java-trust", &DeleteParams::default())
            .await
            .unwrap();
        let missing = check_item(&setup, item);
        assert_eq!(
            (missing.0.as_str(), edited.0.as_str()),
            ("failed", "failed")
        );
        assert!(missing.1.contains("default: missing"), "{missing:?}");
        let server = setup.serve().await;
        server.metrics_are_listed().await;
        server.stop().await;
    }
}

/// Result and detail of one item of `rootbridge check`.
fn check_item(setup: &TestServer, item: &str) -> (String, String) {
    let all = crate::check::found(setup);
    let found = all.iter().find(|(name, ..)| name == item);
    let (_, result, detail, _) = found.unwrap_or_else(|| panic!("no {item} in {all:#?}"));
    (result.clone(), detail.clone())
}

/// What `keytool` says of a truststore, whose password it checks as Java does; the aliases are in it.
fn java_lists(file: &std::path::Path, format: &str) -> String {
    let list = ["-list", "-storepass", "changeit", "-storetype", format];
    let mut command = std::process::Command::new("keytool");
    rootbridge_test_support::command::run(command.args(list).arg("-keystore").arg(file))
}
