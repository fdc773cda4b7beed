//! deploy/linkerd/in-place: the pod of the identity controller with another controller in it, and
//! back, by helm and kubectl at a real API server.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::tools::{Tools, named};
use crate::chart::rules::{asked, rights};
use crate::objects::namespace;
use crate::server::ApiServer;
use rootbridge_test_support::files::repository;

const IDENTITY: &str = "deploy/linkerd-identity";

fn path(name: &str) -> String {
    let path = repository("deploy/linkerd/in-place").join(name);
    assert!(path.exists(), "{}", path.display());
    path.display().to_string()
}

/// The names of a container's mounts and of the pod's volumes.
fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|entry| entry["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_pod_is_taken_over_and_given_back() {
    let server = ApiServer::start();
    namespace(&server.client().await, "linkerd").await;
    let tools = Tools::new(&server, "linkerd");
    tools.upgrade(&["--set", "controllerReplicas=3"]);
    let before = tools.object(IDENTITY)["spec"].clone();

    // What outlives the switch; a server that no proxy finds.
    let prepared = tools.ok("kubectl", &["apply", "-k", &path("prepare")]);
    assert!(!prepared.contains("Warning"), "{prepared}");
    let prepare = tools.object("deploy/rootbridge-prepare")["spec"]["template"].clone();
    let selector = &tools.object("service/linkerd-identity-headless")["spec"]["selector"];
    for (key, value) in selector.as_object().unwrap() {
        assert_ne!(&prepare["metadata"]["labels"][key], value);
    }

    let renderer = ["--post-renderer", &path("post-render")];
    tools.upgrade(&[&["--set", "controllerReplicas=3"], &renderer[..]].concat());
    assert_eq!(tools.leftovers(), Vec::<String>::new());
    let after = tools.object(IDENTITY)["spec"].clone();
    assert_eq!(after["replicas"], 1);
    assert_eq!(after["strategy"], json!({ "type": "Recreate" }));
    assert_eq!(after["selector"], before["selector"]);

    let spec = |object: &Value| object["template"]["spec"].clone();
    let (old, new) = (spec(&before), spec(&after));
    let container = |pod: &Value, name: &str| named(&pod["containers"], name).unwrap().clone();
    // The proxy, and what leads to it, are as the chart has them.
    let proxy = "linkerd-proxy";
    assert_eq!(container(&old, proxy), container(&new, proxy));
    for key in [
        "initContainers",
        "serviceAccountName",
        "automountServiceAccountToken",
    ] {
        assert_eq!(old[key], new[key], "{key}");
    }
    assert_eq!(
        before["template"]["metadata"],
        after["template"]["metadata"]
    );
    let (was, is) = (container(&old, "identity"), container(&new, "identity"));
    for key in ["ports", "livenessProbe", "readinessProbe", "env"] {
        assert_eq!(was[key], is[key], "{key}");
    }
    assert_eq!(is["command"], json!(["/usr/bin/rootbridge"]));
    let serve = json!(["serve", "--config", "/etc/rootbridge/rootbridge.toml"]);
    assert_eq!(is["args"], serve);
    let security = &is["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));

    // The issuer's key is not in the pod any more; the account's token still is.
    assert!(names(&old["volumes"]).contains(&"identity-issuer"));
    assert!(!names(&new["volumes"]).contains(&"identity-issuer"));
    let token = named(&is["volumeMounts"], "kube-api-access").unwrap();
    assert_eq!(Some(token), named(&was["volumeMounts"], "kube-api-access"));
    // The server that prepares has the same files.
    let prepared = named(&prepare["spec"]["containers"], "rootbridge").unwrap();
    assert_eq!(names(&prepared["volumeMounts"]).len(), 5);
    for mount in prepared["volumeMounts"].as_array().unwrap() {
        let name = mount["name"].as_str().unwrap();
        assert_eq!(named(&is["volumeMounts"], name), Some(mount));
        let volume = named(&prepare["spec"]["volumes"], name);
        assert!(volume.is_some());
        assert_eq!(named(&new["volumes"], name), volume);
    }
    assert_eq!(prepared["image"], is["image"]);
    assert_eq!(prepared["args"], is["args"]);

    // The way back: the same upgrade without the renderer. What was prepared stays.
    tools.upgrade(&["--set", "controllerReplicas=3"]);
    assert_eq!(tools.object(IDENTITY)["spec"], before);
    tools.object("pvc/rootbridge-ledger");
    tools.object("configmap/rootbridge-identity");
}

/// Without the Deployment nothing is rendered, rather than a control plane without an issuer.
#[test]
fn what_does_not_exist_is_not_replaced() {
    let server = crate::server::shared();
    let tools = Tools::new(server, "default");
    let chart = repository("deploy/charts/rootbridge");
    let message = tools.refused(
        "helm",
        &[
            "template",
            "other",
            chart.to_str().unwrap(),
            "--set",
            "hsm.mode=softhsm",
            "--post-renderer",
            &path("post-render"),
        ],
    );
    let why = "no matches for Id Deployment.v1.apps/linkerd-identity.linkerd";
    assert!(message.contains(why), "{message}");
    assert_eq!(tools.leftovers(), Vec::<String>::new());
}

/// Helm deletes what its chart makes no more, unless the object says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_roots_are_released_and_stay() {
    let server = crate::server::shared();
    let roots = "configmap/linkerd-identity-trust-roots";
    let external = ["--set", "identity.externalCA=true"];
    for (ns, keep) in [("lk-roots-kept", true), ("lk-roots-lost", false)] {
        namespace(&server.client().await, ns).await;
        let tools = Tools::new(server, ns);
        tools.upgrade(&[]);
        if keep {
            let stays = "helm.sh/resource-policy=keep";
            tools.ok("kubectl", &["annotate", roots, stays]);
        }
        tools.upgrade(&external);
        if keep {
            let held = |tools: &Tools| tools.object(roots)["data"]["ca-bundle.crt"].clone();
            assert_eq!(held(&tools), "the roots of before\n");
            // What another writer changed meanwhile is unchanged, also when the chart takes the object back.
            let others = ["--type=merge", "-p", r#"{"data":{"ca-bundle.crt":"both"}}"#];
            tools.ok("kubectl", &[&["patch", roots], &others[..]].concat());
            tools.upgrade(&external);
            assert_eq!(held(&tools), "both");
            tools.upgrade(&[]);
            assert_eq!(held(&tools), "both");
        } else {
            let message = tools.refused("kubectl", &["get", roots]);
            assert!(message.contains("NotFound"), "{message}");
        }
    }
}

/// Linkerd's chart gives the right to review tokens; publish.yaml the rest, and no more.
#[test]
fn the_account_gets_what_the_configuration_needs() {
    let text = fs::read_to_string(path("publish.yaml")).unwrap();
    let objects: Vec<Value> = text
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    let mut given = rights(&objects);
    assert!(given.insert("authentication.k8s.io/tokenreviews create".to_owned()));
    let asked = asked(Path::new(&path("prepare/rootbridge.toml")), "local");
    assert_eq!(given, asked);
}
