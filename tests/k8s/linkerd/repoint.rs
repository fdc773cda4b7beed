//! deploy/linkerd/repoint: proxies that ask another identity service, and back.

use std::fs;

use serde_json::{Value, json};

use super::tools::{Tools, named};
use crate::chart;
use crate::objects::namespace;
use crate::server::ApiServer;
use rootbridge_test_support::files::repository;

const ADDRESS: &str = "LINKERD2_PROXY_IDENTITY_SVC_ADDR";
const STOCK: &str = "linkerd-identity-headless.linkerd.svc.cluster.local.:8080";
const ROOTBRIDGE: &str = "rootbridge-linkerd.rootbridge.svc.cluster.local.:8080";
const CONTROL_PLANE: [&str; 3] = [
    "deploy/linkerd-destination",
    "deploy/linkerd-identity",
    "deploy/linkerd-proxy-injector",
];

fn file(name: &str) -> String {
    repository("deploy/linkerd/repoint")
        .join(name)
        .display()
        .to_string()
}

/// The addresses in the proxy of a Deployment.
fn addresses(tools: &Tools, name: &str) -> Vec<String> {
    let deployment = tools.object(name);
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    let env = named(containers, "linkerd-proxy").unwrap()["env"].as_array();
    let ours = env.unwrap().iter().filter(|one| one["name"] == ADDRESS);
    ours.map(|one| one["value"].as_str().unwrap().to_owned())
        .collect()
}

/// Lists of named things by their names: a patch brings what it names to the front.
fn in_order(mut value: Value) -> Value {
    match &mut value {
        Value::Array(all) => {
            for one in all.iter_mut() {
                *one = in_order(one.take());
            }
            all.sort_by_key(|one| one["name"].as_str().map(str::to_owned));
        }
        Value::Object(all) => {
            for one in all.values_mut() {
                *one = in_order(one.take());
            }
        }
        _ => {}
    }
    value
}

/// The values and the annotation name the Service and the port that the chart makes.
#[test]
fn they_name_what_the_chart_makes() {
    let (service, port) = chart::linkerd_service("rootbridge", "rootbridge");
    let wanted = json!([{
        "name": ADDRESS,
        "value": format!("{service}.rootbridge.svc.cluster.local.:{port}"),
    }]);
    assert_eq!(wanted[0]["value"], ROOTBRIDGE);
    let values = fs::read_to_string(file("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let all = json!({
        "proxy": { "additionalEnv": wanted },
        "identity": { "externalCA": true },
    });
    assert_eq!(values, all);
    let annotation = fs::read_to_string(file("annotation.json")).unwrap();
    let annotation: Value = serde_json::from_str(&annotation).unwrap();
    assert_eq!(annotation, wanted);
    // Both directories have the same renderer.
    let renderer = |shape: &str| {
        let path = repository("deploy/linkerd").join(shape).join("post-render");
        fs::read_to_string(path).unwrap()
    };
    assert_eq!(renderer("repoint"), renderer("in-place"));
    let page = fs::read_to_string(repository("docs/how-to/linkerd.md")).unwrap();
    assert!(page.contains(ROOTBRIDGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_points_the_control_plane_there_and_back() {
    // The patches name Linkerd's own namespace.
    let server = ApiServer::start();
    namespace(&server.client().await, "linkerd").await;
    let tools = Tools::new(&server, "linkerd");
    tools.upgrade(&[]);
    let before = CONTROL_PLANE.map(|name| tools.object(name)["spec"].clone());
    assert_eq!(addresses(&tools, "deploy/linkerd-destination"), [STOCK]);

    let (values, renderer) = (file("values.yaml"), file("post-render"));
    let there = ["-f", &values[..], "--post-renderer", &renderer];
    tools.upgrade(&there);
    for name in CONTROL_PLANE {
        assert_eq!(addresses(&tools, name), [ROOTBRIDGE], "{name}");
    }
    // Nothing else of them is touched.
    for (name, before) in CONTROL_PLANE.iter().zip(&before) {
        let is = in_order(tools.object(name)["spec"].clone()).to_string();
        let was = in_order(before.clone()).to_string();
        let was = was.replace(STOCK, ROOTBRIDGE);
        let was = was.replace("localhost.:8080", ROOTBRIDGE);
        assert_eq!(is, was, "{name}");
    }
    tools.upgrade(&["--reuse-values", "--set", "proxy.additionalEnv=null"]);
    let after = CONTROL_PLANE.map(|name| tools.object(name)["spec"].clone());
    assert_eq!(after.map(in_order), before.map(in_order));

    // What the renderer is for: a server-side apply, which is Helm 4's, takes no variable twice.
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
    ];
    let twice = tools.rendered(&there[..2]);
    let message = tools.refused(
        "kubectl",
        &[&apply[..], &[twice.to_str().unwrap()]].concat(),
    );
    assert!(message.contains("duplicate entries for key"), "{message}");
    let once = tools.rendered(&there);
    tools.ok("kubectl", &[&apply[..], &[once.to_str().unwrap()]].concat());
}
