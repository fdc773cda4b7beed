//! Tests of what the other tests use: API servers, credentials, processes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::guarded_process::{GuardedProcess, runs};
use super::objects::{
    granted, namespace, node, pod, review, rule, service_account, token, token_for,
};
use super::rootbridge::rootbridge;
use super::server::{ApiServer, shared};
use rootbridge_test_support::{PATIENCE, eventually};

/// It says which version it is, as clients of it read it.
#[tokio::test]
async fn the_api_server_is_the_version_that_was_built() {
    let version = shared().client().await.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
    let manifest = include_str!("../cluster-tools/go.mod");
    let wanted = format!("k8s.io/kubernetes {}", version.git_version);
    assert!(manifest.contains(&wanted), "{version:?}");
}

#[tokio::test]
async fn tokens_are_reviewed_for_their_audience_and_their_pod() {
    let client = shared().client().await;
    namespace(&client, "harness-tokens").await;
    service_account(&client, "harness-tokens", "app").await;
    node(&client, "harness-node").await;
    let pod = pod(&client, "harness-tokens", "app-0", "app", "harness-node").await;
    let app = ("harness-tokens", "app");

    let bound = token_for(&client, app, "istio-ca", &pod).await;
    let status = review(&client, &bound, &["istio-ca"]).await.status.unwrap();
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    assert_eq!(status.audiences.unwrap(), ["istio-ca"]);
    let extra = status.user.unwrap().extra.unwrap();
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"],
        [pod.uid().unwrap()]
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        ["harness-node"]
    );

    let other = review(&client, &bound, &["other"]).await.status.unwrap();
    assert_ne!(other.authenticated, Some(true), "{other:?}");

    let free = token(&client, app, &["istio-ca"], 3600, None).await;
    let status = review(&client, &free, &["istio-ca"]).await.status.unwrap();
    let extra = status.user.unwrap().extra.unwrap();
    assert!(!extra.contains_key("authentication.kubernetes.io/pod-name"));
}

/// An account may what its rules say and no more, and a node what its node gives it.
#[tokio::test]
async fn a_credential_has_the_permissions_of_its_rules() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "harness-rules").await;
    let rules = vec![rule("", &["namespaces"], &["list"], &[])];
    let credential = granted(&client, "harness-rules", "reader", rules).await;
    let reader = server.client_as(&credential).await;
    let namespaces: Api<Namespace> = Api::all(reader.clone());
    namespaces.list(&Default::default()).await.unwrap();
    let refused = namespaces.get("harness-rules").await.unwrap_err();
    assert!(refused.to_string().contains("forbidden"), "{refused}");

    let kubelet = server.client_as(&server.kubelet("harness-other")).await;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(kubelet);
    let own = serde_json::json!({ "metadata": { "name": "harness-other" } });
    super::objects::create(&nodes, own).await;
    let other: k8s_openapi::api::core::v1::Node =
        serde_json::from_value(serde_json::json!({ "metadata": { "name": "harness-third" } }))
            .unwrap();
    let refused = nodes.create(&Default::default(), &other).await.unwrap_err();
    assert!(refused.to_string().contains("not allowed"), "{refused}");
}

/// The v1 API of pod certificates is there without a flag.
#[tokio::test]
async fn pod_certificates_and_trust_bundles_are_served() {
    let client = shared().client().await;
    let list = client
        .list_api_group_resources("certificates.k8s.io/v1")
        .await
        .unwrap();
    let names: Vec<_> = list.resources.iter().map(|each| &each.name[..]).collect();
    for wanted in ["podcertificaterequests", "clustertrustbundles"] {
        assert!(names.contains(&wanted), "{wanted} in {names:?}");
    }
}

/// Paused, it does not answer; crashed and restarted, it has its objects; dropped, it leaves nothing.
#[tokio::test]
async fn a_server_stops_and_ends() {
    let mut server = ApiServer::start();
    let client = server.client().await;
    namespace(&client, "kept").await;
    let namespaces: Api<Namespace> = Api::all(client);

    server.pause();
    let asked = tokio::time::timeout(Duration::from_secs(2), namespaces.get("kept")).await;
    assert!(asked.is_err(), "{asked:?}");
    server.resume();
    namespaces.get("kept").await.unwrap();

    let before = server.process().id();
    server.restart();
    assert!(!runs(before));
    let namespaces: Api<Namespace> = Api::all(server.client().await);
    namespaces.get("kept").await.unwrap();

    let processes = [server.process().id(), server.store().id()];
    let directory = server.directory().to_owned();
    drop(server);
    assert!(!processes.into_iter().any(runs));
    assert!(!directory.exists());
}

/// A guard whose parent is killed ends its child.
#[tokio::test]
async fn nothing_outlives_the_tests() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    // The parent is a shell here that holds the guard's standard input, as this process would.
    let script = r#"mkfifo "$1/in"; sh -c "$2" guard "$1/log" "$1/inner" sleep 1000 <"$1/in" & exec 3>"$1/in"; exec sleep 1000"#;
    let parent = GuardedProcess::start(
        "sh".as_ref(),
        &[
            "-c".to_owned(),
            script.to_owned(),
            "parent".to_owned(),
            directory.path().display().to_string(),
            super::guarded_process::GUARD.to_owned(),
        ],
        &directory.path().join("output"),
        None,
    );
    let mut child = None;
    eventually(PATIENCE, "the child's id", async || {
        child = parent.log().trim().parse().ok().map(Pid::from_raw);
        child.is_some()
    })
    .await;
    let child = child.unwrap();
    assert!(runs(child));
    kill(parent.id(), Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "the child's end", async || !runs(child)).await;
    eventually(PATIENCE, "no directory", async || !inner.exists()).await;
}

/// The real server starts with a cluster in its configuration.
#[tokio::test]
async fn rootbridge_starts_beside_a_cluster() {
    let server = shared();
    let client = server.client().await;
    namespace(&client, "harness-rootbridge").await;
    let credential = granted(&client, "harness-rootbridge", "rootbridge", Vec::new()).await;
    let setup = rootbridge(&[("east", server, &credential)], "");
    let running = setup.serve().await;
    running
        .wait_for_log("the cluster's kubeconfig is in use")
        .await;
    running.stop().await;
}
