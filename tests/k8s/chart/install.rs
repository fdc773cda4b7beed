//! The chart in a real cluster: installed by helm, and its rights given to a service account.

use kube::Api;
use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;

use super::{RELEASE, chart, values};
use crate::access::Credential;
use crate::objects::token;
use crate::server::{built, shared};

const MANAGER: &str = "helm";

/// Applies an object as `kubectl apply --server-side` does: unknown and doubled fields are errors.
pub(crate) async fn apply(
    client: &Client,
    object: &Value,
    dry: bool,
) -> kube::Result<DynamicObject> {
    let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text(&object["kind"]));
    let (resource, capabilities) = pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(RELEASE);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let mut params = PatchParams::apply(MANAGER).validation(ValidationDirective::Strict);
    params.dry_run = dry;
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &params, &Patch::Apply(object)).await
}

/// A namespace that other tests may have made already.
pub(crate) async fn namespace(client: &Client, name: &str, labels: Value) {
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels },
    });
    apply(client, &object, false).await.unwrap();
}

/// What a set of values lets Rootbridge do: the account with the chart's roles and nothing else.
pub(crate) async fn rights(client: &Client, ns: &str, values: &[String]) -> Credential {
    namespace(client, ns, serde_json::json!({})).await;
    let kinds = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let mut account = None;
    for object in super::render(ns, values) {
        if !kinds.iter().any(|kind| object["kind"] == *kind) {
            continue;
        }
        if let Some(other) = object["metadata"]["namespace"]
            .as_str()
            .filter(|it| *it != ns)
        {
            namespace(client, other, serde_json::json!({})).await;
        }
        apply(client, &object, false).await.unwrap();
        if object["kind"] == "ServiceAccount" {
            account = object["metadata"]["name"].as_str().map(str::to_owned);
        }
    }
    let account = account.expect("the chart makes an account");
    Credential::Token(token(client, (ns, &account), &[], 86_400, None).await)
}

/// helm, with the administrator's rights in the shared cluster.
pub(super) fn in_cluster(home: &Path, arguments: &[&str], more: &[String]) -> String {
    let server = shared();
    let kubeconfig = home.join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig(&server.admin())).unwrap();
    let output = Command::new(built("helm"))
        .args(arguments)
        .args(more)
        .args(["-n", "chart-install", "--kubeconfig"])
        .arg(&kubeconfig)
        .env("HOME", home)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {message}");
    String::from_utf8(output.stdout).unwrap()
}

/// helm installs it, changes it and takes it away. Evaluation says what it is, loudly; every
/// installation says the next step.
#[tokio::test]
async fn helm_installs_changes_and_removes_it() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let chart = chart("");
    let chart = chart.to_str().unwrap();
    let install = ["install", RELEASE, chart, "--create-namespace"];
    let notes = in_cluster(home, &install, &values("softhsm"));
    assert!(notes.contains("SoftHSM is no HSM"), "{notes}");
    let step = "ca init --config /etc/rootbridge/rootbridge.toml --trust-domain cluster.local";
    assert!(notes.contains(step), "{notes}");

    let client = shared().client().await;
    let sets: Api<StatefulSet> = Api::namespaced(client, "chart-install");
    let before = sets.get("rb-rootbridge").await.unwrap();
    // The claim of a StatefulSet cannot be changed; all else can.
    let mut real = values("module");
    real.extend(
        [
            "persistence.accessMode=ReadWriteOnce",
            "persistence.storageClassName=",
        ]
        .iter()
        .flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()]),
    );
    real.extend(
        [
            "--set",
            "istiodTls=null",
            "--set",
            "linkerdIssuers=null",
            "--set",
            "upstream=null",
            "--set",
            "authority=null",
            "--set",
            "prometheus.servicemonitor.enabled=false",
        ]
        .map(str::to_owned),
    );
    let notes = in_cluster(home, &["upgrade", RELEASE, chart], &real);
    assert!(
        !notes.contains("SoftHSM is no HSM") && notes.contains(step),
        "{notes}"
    );
    let after = sets.get("rb-rootbridge").await.unwrap();
    assert_ne!(before.metadata.generation, after.metadata.generation);

    in_cluster(home, &["uninstall", RELEASE], &[]);
    assert!(sets.get_opt("rb-rootbridge").await.unwrap().is_none());
}
