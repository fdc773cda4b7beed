//! The trust bundle in clusters: filled, followed, repaired, and by one writer.

mod agent;
mod bundles;
mod faults;
mod federation;
mod fill;
mod lease;
mod load;
mod rotation;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::Value;

use super::access::Credential;
use super::chart;
use super::objects::{granted, namespace, rule};
use super::rootbridge::rootbridge;
use super::server::ApiServer;
use rootbridge_test_support::{RunningServer, TestServer, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";
const ISTIO: &str = r#"
[bundle_targets.istio]
trust_domain = "cluster.local"
clusters = ["east"]
preset = "istio"

[publisher]
lease_duration = "5s"
"#;

/// What a publisher of ConfigMaps of that name needs, and no more.
fn rules(name: &str) -> Vec<PolicyRule> {
    vec![
        rule("", &["namespaces"], &["list", "watch"], &[]),
        rule(
            "",
            &["configmaps"],
            &["list", "watch", "patch", "create"],
            &[name],
        ),
        rule("coordination.k8s.io", &["leases"], &["create"], &[]),
        rule(
            "coordination.k8s.io",
            &["leases"],
            &["get", "update"],
            &["rootbridge-publisher"],
        ),
    ]
}

/// An API server on which Rootbridge may publish.
struct Cluster {
    api: ApiServer,
    client: Client,
    credential: Credential,
}

impl Cluster {
    /// With what the chart gives for Istio's ConfigMap, and nothing else.
    async fn of_chart() -> Self {
        let api = ApiServer::start();
        let client = api.client().await;
        let values = chart::set(&[
            // The account and the Lease are then called as the configuration's defaults have it.
            "fullnameOverride=rootbridge",
            "authentication.enabled=false",
            "bundleTargets.istio.preset=istio",
        ]);
        let credential = chart::rights(&client, "rootbridge", &values).await;
        Self {
            api,
            client,
            credential,
        }
    }

    /// With these rules.
    async fn start(rules: Vec<PolicyRule>) -> Self {
        let api = ApiServer::start();
        let client = api.client().await;
        namespace(&client, "rootbridge").await;
        let credential = granted(&client, "rootbridge", "rootbridge", rules).await;
        Self {
            api,
            client,
            credential,
        }
    }

    fn setup(&self, more: &str) -> TestServer {
        rootbridge(&[("east", &self.api, &self.credential)], more)
    }

    fn maps(&self, ns: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), ns)
    }

    /// The value of the key there.
    async fn pem(&self, ns: &str) -> Option<String> {
        let map = self.maps(ns).get_opt(NAME).await.unwrap()?;
        map.data?.remove(KEY)
    }

    /// Waits until `pem` is there; returns how long that took.
    async fn has(&self, ns: &str, pem: &str, limit: Duration) -> Duration {
        let what = format!("the bundle in {ns}");
        eventually(limit, &what, async || {
            self.pem(ns).await.as_deref() == Some(pem)
        })
        .await
    }

    async fn delete_namespace(&self, ns: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(ns, &DeleteParams::default()).await.unwrap();
    }
}

/// The only target's status, as the command shows it.
fn status(setup: &TestServer, server: &RunningServer) -> Value {
    all_statuses(setup, server)[0].clone()
}

fn all_statuses(setup: &TestServer, server: &RunningServer) -> Value {
    let admin = format!("http://127.0.0.1:{}", server.admin);
    let file = setup.path("operator.token").display().to_string();
    let arguments = [
        "bundle",
        "status",
        "--admin",
        &admin,
        "--credential-file",
        &file,
        "-o",
        "json",
    ];
    serde_json::from_str(&setup.cli(&arguments)).unwrap()
}

/// Waits until the target's status is as wanted.
async fn stands(
    setup: &TestServer,
    server: &RunningServer,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        last = status(setup, server);
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within {PATIENCE:?}: {what}: {last}\n{}", tail(server));
}

/// What the publisher has logged.
fn tail(server: &RunningServer) -> String {
    let log = server.log();
    let own = log.lines().filter(|line| line.contains("publisher"));
    own.collect::<Vec<_>>().join("\n")
}

/// The bundle that the server publishes.
fn published(setup: &TestServer) -> String {
    setup.roots("cluster.local")
}

fn add_anchor(setup: &TestServer, file: &str) {
    let domain = ["--trust-domain", "cluster.local"];
    setup.cli(
        &[
            &["anchors", "add", file, "--source", "old mesh"],
            &domain[..],
        ]
        .concat(),
    );
}
