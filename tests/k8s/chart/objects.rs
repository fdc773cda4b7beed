//! Every object is one that a real API server takes.

use serde_json::{Value, json};

use super::install::{apply, namespace};
use super::{RELEASE, chart, configuration, helm, only, refused, render, set, value_sets, values};
use crate::server::shared;

#[test]
fn every_value_set_passes_helms_lint() {
    for name in value_sets() {
        let chart = chart("");
        let arguments = ["lint", "--strict", chart.to_str().unwrap()];
        let output = helm(&arguments, &values(&name));
        let message = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {message}");
    }
}

#[tokio::test]
async fn every_object_passes_a_dry_run() {
    let client = shared().client().await;
    let ns = "chart-objects";
    namespace(&client, ns, json!({})).await;
    namespace(&client, "istio-system", json!({})).await;
    namespace(&client, "linkerd", json!({})).await;
    namespace(&client, "pki", json!({})).await;
    service_monitors(&client).await;
    for name in value_sets() {
        for mut object in render(ns, &values(&name)) {
            // As helm does where a template names no namespace.
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = ns.into();
            }
            let kind = object["kind"].clone();
            if let Err(error) = apply(&client, &object, true).await {
                panic!("{name}: {kind}: {error}\n{object:#}");
            }
        }
    }
}

/// The strictest Pod Security level lets the pod in; but for one with a socket of its host's.
#[tokio::test]
async fn the_pod_is_restricted() {
    let client = shared().client().await;
    let ns = "chart-restricted";
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    namespace(&client, ns, labels).await;
    for (name, fits) in [("softhsm", true), ("module", true), ("socket", false)] {
        let objects = render(ns, &values(name));
        let template = &only(&objects, "StatefulSet")["spec"]["template"];
        let mut spec = template["spec"].clone();
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(json!({ "name": "state", "emptyDir": {} }));
            // The claim that the other one stands for is given as a volume already.
            volumes.dedup_by(|next, before| next["name"] == before["name"]);
        }
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": ns, "labels": template["metadata"]["labels"] },
            "spec": spec,
        });
        let answer = apply(&client, &pod, true).await;
        assert_eq!(answer.is_ok(), fits, "{name}: {answer:?}");
        if let Err(error) = answer {
            let message = error.to_string();
            assert!(
                message.contains("restricted volume types") && message.contains("socket"),
                "{message}"
            );
            assert_eq!(
                message.matches("!=").count() + message.matches("must").count(),
                0,
                "{message}"
            );
        }
    }
}

#[test]
fn invalid_values_are_refused() {
    let nothing = refused(&[]);
    assert!(nothing.contains("hsm.mode"), "{nothing}");
    // Each of several servers would have a ledger, or keys, or a mark of its own.
    let module = "hsm.mode=module";
    let database = "ledger.url=postgres://u@h/d";
    for (values, missing) in [
        (&[module][..], "/ledger/url"),
        (&[database], "/hsm/mode"),
        (
            &[module, database, "persistence.existingClaim=c"],
            "/persistence/existingClaim",
        ),
    ] {
        let two = refused(&set(&[&["replicaCount=2"], values].concat()));
        assert!(two.contains(missing), "{two}");
    }
    let other = refused(&set(&["ledger.url=mysql://h/d"]));
    assert!(other.contains("/ledger/url"), "{other}");
    let unknown = refused(&set(&["replicas=1"]));
    assert!(unknown.contains("'replicas' not allowed"), "{unknown}");
    let path = refused(&["--set".to_owned(), "hsm.mode=module".to_owned()]);
    assert!(path.contains("hsm.module.path"), "{path}");
    let unnamed = refused(&set(&["bundleTargets.x.key=ca.crt"]));
    assert!(unnamed.contains("bundleTargets.x.name"), "{unnamed}");
}

/// One pod at a time writes to a SQLite ledger: a StatefulSet of one, on a volume of one node.
#[test]
fn there_is_one_writer() {
    for name in value_sets() {
        let objects = render(RELEASE, &values(&name));
        assert!(!objects.iter().any(|object| object["kind"] == "Deployment"));
        if name == "remote" {
            assert!(!objects.iter().any(|object| object["kind"] == "StatefulSet"));
            continue;
        }
        let spec = &only(&objects, "StatefulSet")["spec"];
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        for claim in spec["volumeClaimTemplates"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let mode = claim["spec"]["accessModes"][0].as_str().unwrap();
            assert!(mode.starts_with("ReadWriteOnce"), "{mode}");
        }
        if name == "postgres" {
            continue;
        }
        assert_eq!(spec["replicas"], 1);
        assert!(
            !objects
                .iter()
                .any(|object| object["kind"] == "PodDisruptionBudget")
        );
        let affinity = &spec["template"]["spec"]["affinity"];
        let kept_apart =
            &affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        assert!(kept_apart.is_null(), "{name}: {affinity:#}");
    }
}

/// Several share a database: they stay apart, and a drain leaves one.
#[test]
fn several_servers_share_a_database() {
    let objects = render(RELEASE, &values("postgres"));
    let budget = only(&objects, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["minAvailable"], 1);
    let spec = &only(&objects, "StatefulSet")["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(
        budget["spec"]["selector"]["matchLabels"],
        spec["selector"]["matchLabels"]
    );
    let pod = &spec["template"]["spec"];
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        [0]["podAffinityTerm"];
    assert_eq!(apart["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(
        apart["labelSelector"]["matchLabels"],
        spec["selector"]["matchLabels"]
    );
    // The password is a file of the Secret, and in no other object.
    let volumes = pod["volumes"].as_array().unwrap();
    let ledger = volumes.iter().find(|volume| volume["name"] == "ledger");
    assert_eq!(
        ledger.unwrap()["secret"]["secretName"],
        "rootbridge-database"
    );
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "ledger");
    let directory = mount.unwrap()["mountPath"].as_str().unwrap();
    let text = configuration(RELEASE, &values("postgres"));
    let read: toml::Table = text.parse().unwrap();
    assert_eq!(
        read["ledger"]["password_file"].as_str(),
        Some(format!("{directory}/password").as_str())
    );
    assert!(
        read["ledger"]["url"]
            .as_str()
            .unwrap()
            .starts_with("postgres://rootbridge@db-0.example,db-1.example/")
    );
    assert!(!read["ledger"].as_table().unwrap().contains_key("path"));
    let own = "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=zone";
    let mut values = values("postgres");
    values.extend(["--set".to_owned(), format!("affinity.{own}")]);
    let objects = render(RELEASE, &values);
    let affinity = &only(&objects, "StatefulSet")["spec"]["template"]["spec"]["affinity"];
    assert!(
        affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].is_null()
    );
}

/// The probes ask the port that the configuration opens, and wait for no HSM.
#[test]
fn probes_ask_the_admin_port() {
    let objects = render(RELEASE, &values("softhsm"));
    let container = &only(&objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "admin");
    }
    let ports = container["ports"].as_array().unwrap();
    let admin = ports.iter().find(|port| port["name"] == "admin").unwrap();
    assert_eq!(admin["containerPort"], 9901);
    let toml = only(&objects, "ConfigMap")["data"]["rootbridge.toml"].as_str();
    assert!(toml.unwrap().contains("address = \"0.0.0.0:9901\""));
}

/// The smallest definition of ServiceMonitor: its schema is the Prometheus operator's.
async fn service_monitors(client: &kube::Client) {
    let definition: Value = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "servicemonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {
                "kind": "ServiceMonitor",
                "plural": "servicemonitors",
                "singular": "servicemonitor",
            },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": { "spec": {
                        "type": "object",
                        "required": ["endpoints", "selector"],
                        "properties": {
                            "jobLabel": { "type": "string" },
                            "selector": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                            "namespaceSelector": { "type": "object", "properties": {
                                "matchNames": { "type": "array", "items": { "type": "string" } },
                            }},
                            "endpoints": { "type": "array", "items": { "type": "object", "properties": {
                                "port": { "type": "string" },
                                "path": { "type": "string" },
                                "interval": { "type": "string" },
                                "scrapeTimeout": { "type": "string" },
                            }}},
                        },
                    }},
                }},
            }],
        },
    });
    apply(client, &definition, false).await.unwrap();
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": { "name": "probe", "namespace": "default" },
        "spec": { "endpoints": [], "selector": {} },
    });
    rootbridge_test_support::eventually(
        rootbridge_test_support::PATIENCE,
        "the definition",
        async || apply(client, &monitor, true).await.is_ok(),
    )
    .await;
}

/// A vendor's client runs beside the server, and replicas are spread as the values say.
#[test]
fn vendors_containers_and_zones_are_taken_over() {
    let client = [
        "hsm.module.initContainers[0].name=client",
        "hsm.module.initContainers[0].image=vendor/client:1",
        "hsm.module.initContainers[0].restartPolicy=Always",
        "topologySpreadConstraints[0].maxSkew=1",
        "topologySpreadConstraints[0].topologyKey=topology.kubernetes.io/zone",
        "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
    ];
    let more = client
        .iter()
        .flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()]);
    let values: Vec<_> = values("module").into_iter().chain(more).collect();
    let objects = render(RELEASE, &values);
    let pod = &only(&objects, "StatefulSet")["spec"]["template"]["spec"];
    let wanted = serde_json::json!([
        { "name": "client", "image": "vendor/client:1", "restartPolicy": "Always" }
    ]);
    assert_eq!(pod["initContainers"], wanted);
    let zone = &pod["topologySpreadConstraints"][0];
    assert_eq!(zone["topologyKey"], "topology.kubernetes.io/zone");
    let plain = render(RELEASE, &super::values("module"));
    let pod = &only(&plain, "StatefulSet")["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["initContainers"], &pod["topologySpreadConstraints"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
}
