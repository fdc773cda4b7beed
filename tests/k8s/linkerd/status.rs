//! `rootbridge linkerd status`: which workloads run with which roots.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::chart;
use crate::objects::{create, namespace, phase};
use crate::rootbridge::rootbridge;
use crate::server::{ApiServer, shared};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

const ROOTS: &str = "linkerd-identity-trust-roots";

/// A CA that publishes Linkerd's roots into a namespace, with what the chart gives for that.
async fn publisher(server: &ApiServer, control: &str) -> TestServer {
    let admin = server.client().await;
    let chosen = format!("kubernetes.io/metadata.name={control}");
    let values = chart::set(&[
        &format!("fullnameOverride={control}"),
        "authentication.method=offline",
        "bundleTargets.linkerd.preset=linkerd",
        &format!("bundleTargets.linkerd.namespaces={chosen}"),
    ]);
    let credential = chart::rights(&admin, control, &values).await;
    let more = format!(
        "audiences.istio = \"istio-ca\"\nauthenticate = \"offline\"\n\
         [bundle_targets.linkerd]\ntrust_domain = \"{TD}\"\nclusters = [\"east\"]\n\
         preset = \"linkerd\"\nnamespaces = \"{chosen}\"\n\
         [publisher]\nlease_namespace = \"{control}\"\nlease_name = \"{control}-publisher\"\n"
    );
    rootbridge(&[("east", server, &credential)], &more)
}

/// As the injector writes it.
fn sha256(roots: &str) -> String {
    let digest = digest(&SHA256, roots.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A pod with a proxy of the control plane; `owner` is kind and name.
async fn proxy(
    client: &Client,
    control: &str,
    ns: &str,
    name: &str,
    owner: Option<(&str, &str)>,
    roots: Option<&str>,
) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name,
            "labels": { "linkerd.io/control-plane-ns": control, "pod-template-hash": "7d9c5b8f6d" },
        },
        "spec": {
            "containers": [{ "name": "main", "image": "none" }],
            "initContainers": [{ "name": "linkerd-proxy", "image": "none", "restartPolicy": "Always" }],
        },
    });
    if let Some((kind, name)) = owner {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true,
            "uid": "0b5a3f3e-1111-4222-8333-0123456789ab",
        }]);
    }
    if let Some(roots) = roots {
        pod["metadata"]["annotations"] = json!({ "linkerd.io/trust-root-sha256": roots });
    }
    create(&Api::namespaced(client.clone(), ns), pod).await
}

/// A workload as `namespace kind name`, how many are current, old and unknown, and its command.
type Row = (String, [u64; 3], String);

/// The metric: how many injected pods hold the roots, others, and who knows which.
async fn counted(running: &RunningServer) -> [Option<f64>; 3] {
    let of = async |state: &str| {
        let name = format!("rootbridge_linkerd_pods{{cluster=\"east\",state=\"{state}\"}}");
        running.metric(&name).await
    };
    [of("current").await, of("old").await, of("unknown").await]
}

async fn counts(running: &RunningServer, current: f64, old: f64, unknown: f64) {
    let wanted = [Some(current), Some(old), Some(unknown)];
    eventually(PATIENCE, &format!("{wanted:?}"), async || {
        counted(running).await == wanted
    })
    .await;
}

/// The exit code, the whole result, and its workloads.
fn status(setup: &TestServer) -> (Option<i32>, Value, Vec<Row>) {
    let output = setup.try_cli(&["linkerd", "status", "-o", "json"]);
    let message: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let workloads = message["clusters"][0]["control_planes"][0]["workloads"].as_array();
    let rows = workloads.into_iter().flatten().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let name = format!("{} {} {}", text("namespace"), text("kind"), text("name"));
        let counts = ["current", "old", "unknown"].map(|key| row[key].as_u64().unwrap());
        (name, counts, text("restart").to_owned())
    });
    let rows = rows.collect();
    (output.status.code(), message, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_with_which_roots() {
    // The metric counts whatever mesh a pod is of.
    let server = &ApiServer::start();
    let client = server.client().await;
    let (control, shop) = ("lk-status", "lk-status-shop");
    let setup = publisher(server, control).await;
    namespace(&client, shop).await;

    // Nothing is published yet: nothing can be said, and nothing may go.
    let (code, message, _) = status(&setup);
    assert_eq!(
        (code, &message["old_roots_may_go"]),
        (Some(7), &json!(false)),
        "{message}"
    );

    let running = setup.serve().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), control);
    let published = async |anchors: usize| {
        let mut held = String::new();
        eventually(PATIENCE, "the roots", async || {
            let map = maps.get_opt(ROOTS).await.unwrap();
            let data = map.and_then(|map| map.data).unwrap_or_default();
            held = data.get("ca-bundle.crt").cloned().unwrap_or_default();
            held.matches("BEGIN").count() == anchors
        })
        .await;
        sha256(&held)
    };
    let first = published(1).await;
    assert_eq!(first, sha256(&setup.roots(TD)));

    let web = Some(("ReplicaSet", "web-7d9c5b8f6d"));
    proxy(&client, control, shop, "web-1", web, Some(&first)).await;
    proxy(&client, control, shop, "web-2", web, Some(&first)).await;
    proxy(
        &client,
        control,
        shop,
        "db-0",
        Some(("StatefulSet", "db")),
        Some(&first),
    )
    .await;
    proxy(&client, control, shop, "done", None, Some("ab")).await;
    phase(&client, shop, "done", "Succeeded").await;
    // Of another mesh, and of none.
    proxy(&client, "elsewhere", shop, "theirs", None, Some("ab")).await;
    crate::objects::pod(&client, shop, "plain", "default", "").await;
    let (code, message, rows) = status(&setup);
    let none = String::new();
    let deployment = format!("{shop} Deployment web");
    let set = format!("{shop} StatefulSet db");
    assert_eq!(
        rows,
        [
            (deployment.clone(), [2, 0, 0], none.clone()),
            (set.clone(), [1, 0, 0], none.clone()),
        ],
        "{message}"
    );
    assert_eq!(
        (code, &message["old_roots_may_go"]),
        (Some(0), &json!(true))
    );

    counts(&running, 3.0, 1.0, 0.0).await;

    // Old and new roots together: what runs has only the old one.
    let other = rootbridge_test_support::openssl::OpensslCa::new(&setup.path(""), "next");
    let file = setup.path("next.pem");
    std::fs::write(&file, other.pem()).unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[file.to_str().unwrap()]].concat());
    let both = published(2).await;
    assert_ne!(first, both);
    proxy(&client, control, shop, "web-3", web, Some(&both)).await;
    proxy(
        &client,
        control,
        shop,
        "db-1",
        Some(("StatefulSet", "db")),
        None,
    )
    .await;
    proxy(&client, control, shop, "alone", None, Some(&first)).await;
    let (code, message, rows) = status(&setup);
    let restart = |what: &str| format!("kubectl rollout restart {what} -n {shop}");
    assert_eq!(
        rows,
        [
            (deployment.clone(), [1, 2, 0], restart("deployment/web")),
            (format!("{shop} Pod alone"), [0, 1, 0], none.clone()),
            (set, [0, 1, 1], restart("statefulset/db")),
        ],
        "{message}"
    );
    assert_eq!(
        (code, &message["old_roots_may_go"]),
        (Some(1), &json!(false))
    );
    counts(&running, 1.0, 5.0, 1.0).await;
    let table = setup.try_cli(&["linkerd", "status"]);
    let shown = String::from_utf8(table.stdout).unwrap();
    assert!(shown.contains(&restart("deployment/web")), "{shown}");
    assert!(shown.contains("remove no root yet"), "{shown}");

    let pods: Api<Pod> = Api::namespaced(client.clone(), shop);
    for name in ["web-1", "web-2", "db-0", "db-1", "alone"] {
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(name, &at_once).await.unwrap();
    }
    let (code, message, rows) = status(&setup);
    assert_eq!(rows, [(deployment, [1, 0, 0], none)], "{message}");
    assert_eq!(
        (code, &message["old_roots_may_go"]),
        (Some(0), &json!(true))
    );
    counts(&running, 1.0, 1.0, 0.0).await;
    running.metrics_are_listed().await;
    running.stop().await;
}

/// More pods than a page holds; and the control plane's own, which are classified by their age.
#[tokio::test(flavor = "multi_thread")]
async fn pages_and_the_control_planes_own_pods() {
    let server = shared();
    let client = server.client().await;
    let (control, many) = ("lk-pages", "lk-pages-many");
    let setup = publisher(server, control).await;
    namespace(&client, many).await;
    let own = |name: &'static str| {
        let pod = json!({
            "metadata": { "name": name, "labels": {
                "linkerd.io/control-plane-ns": control,
                "linkerd.io/control-plane-component": "destination",
            }, "annotations": { "linkerd.io/trust-root-sha256": "e3b0c44298fc1c14" } },
            "spec": { "containers": [{ "name": "linkerd-proxy", "image": "none" }] },
        });
        let api: Api<Pod> = Api::namespaced(client.clone(), control);
        async move { create(&api, pod).await }
    };
    own("before").await;
    // Both clocks count whole seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let running = setup.serve().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), control);
    eventually(PATIENCE, "the roots", async || {
        maps.get_opt(ROOTS).await.unwrap().is_some()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = own("after").await;
    assert_eq!(after.name_any(), "after");

    let roots = sha256(&setup.roots(TD));
    for n in 0..230 {
        let owner = Some(("ReplicaSet", "web-7d9c5b8f6d"));
        let held = if n % 23 == 0 { "ab" } else { &roots };
        proxy(
            &client,
            control,
            many,
            &format!("web-{n}"),
            owner,
            Some(held),
        )
        .await;
    }
    let (code, message, rows) = status(&setup);
    let command = format!("kubectl rollout restart deployment/web -n {many}");
    let none = String::new();
    let wanted = [
        (format!("{control} Pod after"), [1, 0, 0], none.clone()),
        (format!("{control} Pod before"), [0, 1, 0], none),
        (format!("{many} Deployment web"), [220, 10, 0], command),
    ];
    assert_eq!(rows, wanted, "{message}");
    assert_eq!(code, Some(1));

    // The bundle changes: pods that started before it do not have it.
    let other = rootbridge_test_support::openssl::OpensslCa::new(&setup.path(""), "next");
    let file = setup.path("next.pem");
    std::fs::write(&file, other.pem()).unwrap();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[file.to_str().unwrap()]].concat());
    eventually(PATIENCE, "all are old", async || {
        let counts = status(&setup).2.into_iter().map(|(_, counts, _)| counts);
        counts.collect::<Vec<_>>() == [[0, 1, 0], [0, 1, 0], [0, 230, 0]]
    })
    .await;
    running.stop().await;
}
