//! Linkerd's listener: the port, the Service and the policy agree, and proxies find the name that
//! the how-to tells them.

use serde_json::{Value, json};

use super::install::in_cluster;
use super::settings::{configuration, validate};
use super::{RELEASE, chart, only, refused, render, render_as, set, values};

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// Name and port of the Service for proxies, of a release.
pub(crate) fn service(release: &str, namespace: &str) -> (String, u64) {
    let objects = render_as(release, namespace, &values("linkerd"));
    let found = objects.iter().find(|object| {
        object["kind"] == "Service"
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == "linkerd"
    });
    let service = found.expect("a Service for proxies");
    let name = service["metadata"]["name"].as_str().unwrap().to_owned();
    (name, service["spec"]["ports"][0]["port"].as_u64().unwrap())
}

#[test]
fn proxies_reach_pods_that_can_answer() {
    let mut other = values("linkerd");
    other.extend(["--set", "linkerd.port=8085"].map(str::to_owned));
    for (values, port) in [(values("linkerd"), 8080), (other, 8085)] {
        let objects = render("trust", &values);
        let service = named(&objects, "Service", "rb-rootbridge-linkerd").unwrap();
        let spec = &service["spec"];
        assert_eq!(spec["clusterIP"], "None");
        assert_ne!(spec["publishNotReadyAddresses"], true);
        let open = json!([{ "name": "grpc", "port": port, "targetPort": "linkerd" }]);
        assert_eq!(spec["ports"], open);
        let set = only(&objects, "StatefulSet");
        let template = &set["spec"]["template"];
        for (key, value) in spec["selector"].as_object().unwrap() {
            assert_eq!(&template["metadata"]["labels"][key], value);
        }
        let ports = template["spec"]["containers"][0]["ports"].as_array();
        let listens = json!({ "name": "linkerd", "containerPort": port });
        assert!(ports.unwrap().contains(&listens), "{ports:?}");
        let annotations = &template["metadata"]["annotations"];
        assert_eq!(annotations["linkerd.io/inject"], "disabled");
        let ingress = &only(&objects, "NetworkPolicy")["spec"]["ingress"];
        let lets_in =
            json!({ "ports": [{ "port": "linkerd" }], "from": [{ "namespaceSelector": {} }] });
        assert!(ingress.as_array().unwrap().contains(&lets_in), "{ingress}");

        let text = configuration(&values);
        validate(&text).unwrap_or_else(|message| panic!("{message}\n{text}"));
        let read: toml::Table = text.parse().unwrap();
        let listener = read["listeners"]["linkerd"].as_table().unwrap();
        let address = format!("0.0.0.0:{port}");
        assert_eq!(listener["address"].as_str(), Some(address.as_str()));
        assert_eq!(listener["linkerd"]["outage_margin"].as_str(), Some("3h"));
        assert_eq!(
            listener["tls"]["trust_domain"].as_str(),
            Some("mesh.example")
        );
        // The mesh's listener takes no tokens of the cluster only because Linkerd's does.
        let mesh = read["listeners"]["mesh"].as_table().unwrap();
        assert!(!mesh.contains_key("clusters"), "{text}");
    }
}

/// Beside Istio's audiences, and with the verification that the values choose.
#[test]
fn it_runs_beside_the_mesh() {
    let values = set(&["linkerd.enabled=true", "authentication.method=offline"]);
    let text = configuration(&values);
    validate(&text).unwrap_or_else(|message| panic!("{message}\n{text}"));
    let read: toml::Table = text.parse().unwrap();
    let cluster = &read["clusters"]["local"];
    assert_eq!(cluster["authenticate"].as_str(), Some("offline"));
    for (api, audience) in [("istio", "istio-ca"), ("linkerd", "identity.l5d.io")] {
        assert_eq!(cluster["audiences"][api].as_str(), Some(audience));
    }
    assert!(
        read["listeners"]["mesh"]
            .as_table()
            .unwrap()
            .contains_key("clusters")
    );
}

#[test]
fn without_the_feature_nothing_of_it_is_rendered() {
    let objects = render(RELEASE, &set(&[]));
    assert!(named(&objects, "Service", "rb-rootbridge-linkerd").is_none());
    let template = &only(&objects, "StatefulSet")["spec"]["template"];
    assert!(template["metadata"]["annotations"]["linkerd.io/inject"].is_null());
    assert!(!configuration(&set(&[])).contains("linkerd"));
}

#[test]
fn values_that_proxies_could_not_use_are_refused() {
    for (value, at) in [
        ("linkerd.port=8443", "/linkerd/port"),
        ("linkerd.controlNamespace=a.b", "/linkerd/controlNamespace"),
        ("linkerd.control=x", "'control' not allowed"),
        ("cluster.name=", "cluster.name"),
    ] {
        let message = refused(&set(&["linkerd.enabled=true", value]));
        assert!(message.contains(at), "{value}: {message}");
    }
}

/// The notes warn before the switch, and only who needs it.
#[test]
fn the_notes_say_what_comes_first() {
    let home = tempfile::tempdir().unwrap();
    let chart = chart("");
    let arguments = [
        "install",
        RELEASE,
        chart.to_str().unwrap(),
        "--dry-run=client",
    ];
    for (name, expected) in [("linkerd", true), ("softhsm", false)] {
        let message = in_cluster(home.path(), &arguments, &values(name));
        let notes = message.split("NOTES:").nth(1).unwrap();
        assert_eq!(
            notes.contains("docs/how-to/linkerd.md"),
            expected,
            "{notes}"
        );
        assert_eq!(
            notes.contains("rb-rootbridge-linkerd.chart-install.svc"),
            expected
        );
    }
}
