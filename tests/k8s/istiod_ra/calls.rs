//! Workloads of one namespace, which ask istiod with Istio's own client.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::istiod::Istiod;
use super::{NAMESPACE, built};
use crate::objects::{namespace, pod, service_account, token_for};
use rootbridge_test_support::command;

const HOST: &str = "istiod.istio-system.svc";

/// One call; the fields are described in `tests/interop/istio/calls.go`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Call {
    name: String,
    client: String,
    token_file: PathBuf,
    key: String,
    identity: String,
    ttl: i64,
    signer: String,
    fields: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Call {
    /// `account` asks for a name with a key of this kind.
    pub(super) fn of(account: &str, identity: &str, key: &str) -> Self {
        Self {
            name: account.to_owned(),
            identity: identity.to_owned(),
            key: key.to_owned(),
            ttl: 86_400,
            ..Self::default()
        }
    }

    /// Names the signer, as a proxy's ISTIO_META_CERT_SIGNER does.
    pub(super) fn signed_by(self, signer: &str) -> Self {
        let signer = signer.to_owned();
        let fields = [("CertSigner".to_owned(), signer.clone())].into();
        Self {
            signer,
            fields,
            ..self
        }
    }

    /// For another's name, as ztunnel asks for the pods of its node.
    pub(super) fn on_behalf(self) -> Self {
        let identity = self.identity.clone();
        let fields = [("ImpersonatedIdentity".to_owned(), identity)].into();
        Self { fields, ..self }.once()
    }

    /// By the generated stub, which tries once.
    pub(super) fn once(self) -> Self {
        let client = "raw".to_owned();
        Self { client, ..self }
    }
}

/// What came of it.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) code: String,
    pub(super) message: String,
    facts: Value,
    problem: String,
}

impl Answer {
    /// What Go found in the chain, which it found nothing wrong with.
    pub(super) fn granted(&self) -> &Value {
        let outcome = (&self.code[..], &self.problem[..]);
        assert_eq!(outcome, ("OK", ""), "{self:?}");
        &self.facts
    }
}

/// A namespace's workloads and a node's ztunnel, with their tokens in files as a kubelet keeps them.
pub(super) struct Shop {
    tokens: TempDir,
    roots: PathBuf,
}

impl Shop {
    pub(super) async fn new(admin: &Client, roots: &Path) -> Self {
        let tokens = tempfile::tempdir().unwrap();
        namespace(admin, "shop").await;
        let workloads = [
            ("shop", "web", "istio-ca", "node-1"),
            ("shop", "till", "istio-ca", "node-2"),
            ("shop", "stranger", "x", "node-1"),
            (NAMESPACE, "ztunnel", "istio-ca", "node-1"),
        ];
        for (namespace, account, audience, node) in workloads {
            service_account(admin, namespace, account).await;
            let pod = pod(admin, namespace, account, account, node).await;
            let token = token_for(admin, (namespace, account), audience, &pod).await;
            fs::write(tokens.path().join(account), token).unwrap();
        }
        let roots = roots.to_owned();
        Self { tokens, roots }
    }

    fn driver(&self, mode: &str, istiod: &Istiod) -> Command {
        let mut command = Command::new(built("interop/istio"));
        command
            .args([mode, "-server-name", HOST, "-roots"])
            .arg(&self.roots)
            .arg("-address")
            .arg(format!("127.0.0.1:{}", istiod.port));
        command
    }

    /// The agent's secret manager: a certificate with ROOTCA, and its renewal.
    pub(super) async fn agent(&self, istiod: &Istiod, account: &str) {
        let mut command = self.driver("agent", istiod);
        command
            .args(["-namespace", "shop", "-service-account", account])
            .arg("-token-file")
            .arg(self.tokens.path().join(account));
        let run = move || command::run(&mut command);
        tokio::task::spawn_blocking(run).await.unwrap();
    }

    /// Many certificates for an account, 32 asked for at a time; every one must come and be right.
    pub(super) async fn many(&self, istiod: &Istiod, account: &str, count: usize) {
        let identity = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        let workload =
            json!([{ "identity": identity, "token_file": self.tokens.path().join(account) }]);
        let list = self.tokens.path().join("workloads.json");
        fs::write(&list, workload.to_string()).unwrap();
        let mut command = self.driver("issue", istiod);
        command.args(["-workers", "32", "-count", &count.to_string(), "-workloads"]);
        command.arg(list);
        let run = move || command::run(&mut command);
        let reported = tokio::task::spawn_blocking(run).await.unwrap();
        let tally: Value = serde_json::from_str(&reported).unwrap();
        assert_eq!(tally["issued"], count, "{tally}");
        assert_eq!(tally["problems"], Value::Null, "{tally}");
        eprintln!(
            "{count} certificates by way of istiod: {} ms",
            tally["millis"]
        );
    }

    /// Makes the calls in order.
    pub(super) async fn ask(&self, istiod: &Istiod, calls: &[Call]) -> Vec<Answer> {
        let mut list = json!(calls);
        for one in list.as_array_mut().unwrap() {
            let file = self.tokens.path().join(one["name"].as_str().unwrap());
            let token = fs::read_to_string(&file).unwrap();
            if one["client"] == "raw" {
                one["headers"]["authorization"] = format!("Bearer {token}").into();
                one["headers"]["clusterid"] = "Kubernetes".into();
            } else {
                one["token_file"] = json!(file);
            }
        }
        let mut command = self.driver("calls", istiod);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // On a thread of its own: other things happen while calls wait.
        let run = move || {
            let mut child = command.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(list.to_string().as_bytes()).unwrap();
            drop(input);
            child.wait_with_output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let reported = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{reported}\n{}", istiod.log());
        let answers: Vec<Answer> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answers.len(), calls.len());
        answers
    }
}
