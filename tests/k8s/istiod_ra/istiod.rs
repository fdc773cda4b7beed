//! istiod's process, in a directory that replaces its container: what its Deployment says is
//! taken from the chart, and what a kubelet would mount is read from the cluster.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NAMESPACE, block, built};
use crate::access::Credential;
use crate::chart;
use crate::guarded_process::GuardedProcess;
use crate::objects::token;
use crate::server::ApiServer;
use rootbridge_test_support::free_port;
use rootbridge_test_support::{PATIENCE, eventually};

/// What istiod has of its chart besides its own Deployment. Its webhooks would be called for each
/// pod, at an address without a server.
const KINDS: [&str; 6] = [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ConfigMap",
];

pub(super) struct Istiod {
    process: GuardedProcess,
    pod: Value,
    directory: TempDir,
    webhooks: u16,
    /// Of its secure discovery service, where its CA is asked.
    pub(super) port: u16,
}

impl Istiod {
    /// Installs it by the how-to's values and further ones, and waits until it is ready.
    pub(super) async fn start(server: &ApiServer, admin: &Client, more: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rb-istiod-")
            .tempdir()
            .unwrap();
        let values = directory.path().join("values.yaml");
        fs::write(&values, block("yaml", "EXTERNAL_CA")).unwrap();
        let mut values = vec!["-f".to_owned(), values.display().to_string()];
        values.extend(more.iter().map(ToString::to_string));
        let objects = chart::rendered(&built("istiod/chart"), "istiod", NAMESPACE, &values);
        for object in &objects {
            if KINDS.iter().any(|kind| object["kind"] == *kind) {
                chart::apply(admin, object, false).await.unwrap();
            }
        }
        let deployment = objects.iter().find(|one| one["kind"] == "Deployment");
        let pod = &deployment.unwrap()["spec"]["template"]["spec"];
        mount(admin, pod, directory.path()).await;
        // Every pod has it, and istiod takes it for the roots where it has no others.
        let cluster = inside(
            directory.path(),
            "/var/run/secrets/kubernetes.io/serviceaccount",
        );
        fs::create_dir_all(&cluster).unwrap();
        fs::write(cluster.join("ca.crt"), server.ca()).unwrap();
        let account = (NAMESPACE, pod["serviceAccountName"].as_str().unwrap());
        let token = token(admin, account, &[], 86_400, None).await;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig(&Credential::Token(token))).unwrap();

        let (port, http, webhooks) = (free_port(), free_port(), free_port());
        let mut arguments = vec![
            "-C".to_owned(),
            directory.path().display().to_string(),
            "-i".to_owned(),
        ];
        arguments.extend(environment(pod));
        arguments.push(built("istiod/pilot-discovery").display().to_string());
        arguments.extend(flags(pod, directory.path()));
        let loopback = |flag: &str, port: u16| format!("--{flag}=127.0.0.1:{port}");
        arguments.extend([
            format!("--kubeconfig={}", kubeconfig.display()),
            loopback("secureGRPCAddr", port),
            loopback("httpAddr", http),
            loopback("grpcAddr", free_port()),
            loopback("httpsAddr", webhooks),
            loopback("monitoringAddr", free_port()),
            format!("--ctrlz_port={}", free_port()),
        ]);
        let log = directory.path().join("istiod.log");
        let process = GuardedProcess::start(Path::new("env"), &arguments, &log, None);
        let ready = format!("http://127.0.0.1:{http}/ready");
        eventually(PATIENCE * 2, "istiod", async || {
            assert!(!process.ended(), "{}", process.log());
            let answer = reqwest::get(&ready).await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        Self {
            process,
            pod: pod.clone(),
            directory,
            webhooks,
            port,
        }
    }

    /// What it adds to a pod, as its webhook is asked.
    pub(super) async fn injects(&self, roots: &str) -> String {
        let host = "istiod.istio-system.svc";
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(roots.as_bytes()).unwrap()])
            .resolve(host, ([127, 0, 0, 1], self.webhooks).into())
            .build()
            .unwrap();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "containers": [{ "name": "main", "image": "none" }] },
        });
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "namespace": "shop",
                "operation": "CREATE",
                "object": pod,
            },
        });
        let asked = client
            .post(format!("https://{host}:{}/inject", self.webhooks))
            .header("content-type", "application/json")
            .body(review.to_string());
        let text = asked.send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let patch = answer["response"]["patch"].as_str();
        let patch = patch.unwrap_or_else(|| panic!("{answer}"));
        let patch = STANDARD.decode(patch).unwrap();
        String::from_utf8(patch).unwrap()
    }

    /// Mounts again what changed in the cluster, as a kubelet does within a minute, until the roots
    /// are right.
    pub(super) async fn remount(&self, admin: &Client, right: impl Fn(&str) -> bool) {
        let root = self.directory.path();
        let roots = inside(root, "/etc/external-ca-cert/root-cert.pem");
        eventually(PATIENCE, "the roots in a volume", async || {
            mount(admin, &self.pod, root).await;
            right(&fs::read_to_string(&roots).unwrap())
        })
        .await;
    }

    /// Everything that it printed.
    pub(super) fn log(&self) -> String {
        self.process.log()
    }
}

/// The secrets that a pod mounts, where they are there.
async fn mount(admin: &Client, pod: &Value, root: &Path) {
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
    for volume in pod["volumes"].as_array().unwrap() {
        let Some(name) = volume["secret"]["secretName"].as_str() else {
            continue;
        };
        let Some(secret) = secrets.get_opt(name).await.unwrap() else {
            assert_eq!(volume["secret"]["optional"], true, "no secret {name}");
            continue;
        };
        let data = secret.data.unwrap();
        let files: Vec<(&str, &str)> = match volume["secret"]["items"].as_array() {
            None => data.keys().map(|key| (&key[..], &key[..])).collect(),
            Some(items) => items
                .iter()
                .map(|item| {
                    (
                        item["key"].as_str().unwrap(),
                        item["path"].as_str().unwrap(),
                    )
                })
                .collect(),
        };
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        for mounted in mounts.iter().filter(|one| one["name"] == volume["name"]) {
            let into = inside(root, mounted["mountPath"].as_str().unwrap());
            fs::create_dir_all(&into).unwrap();
            for (key, path) in &files {
                // At once, as a kubelet does it: who watches never reads half a file.
                let whole = into.join(format!("..{path}"));
                fs::write(&whole, &data[*key].0).unwrap();
                fs::rename(whole, into.join(path)).unwrap();
            }
        }
    }
}

/// A path of the container's, in the directory that replaces it.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn environment(pod: &Value) -> Vec<String> {
    let given = pod["containers"][0]["env"].as_array().unwrap();
    let mut all: Vec<_> = given
        .iter()
        .filter_map(|one| {
            Some(format!(
                "{}={}",
                one["name"].as_str()?,
                one["value"].as_str()?
            ))
        })
        .collect();
    // What a kubelet fills in.
    all.push("POD_NAME=istiod-0".to_owned());
    all.push(format!("POD_NAMESPACE={NAMESPACE}"));
    all
}

fn flags(pod: &Value, root: &Path) -> Vec<String> {
    let given = pod["containers"][0]["args"].as_array().unwrap();
    given
        .iter()
        .map(|one| one.as_str().unwrap())
        .map(|one| match one.split_once("=/") {
            Some((flag, path)) => format!("{flag}={}", inside(root, path).display()),
            None => one.to_owned(),
        })
        .collect()
}
