//! The same calls to a real OpenBao and to this server: every difference of a status or a body's shape is in the
//! table of docs/reference/vault.md, with its reason.

mod calls;
mod shape;

use std::collections::BTreeMap;
use std::fs;

use reqwest::Method;
use rootbridge_test_support::files::repository;
use rootbridge_test_support::openbao::OpenBao;
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer};
use calls::{Call, Token, calls};
use shape::differences;

const HEADING: &str = "## Compared with a running OpenBao\n";

/// An OpenBao with what this server's configuration has: a mount with a CA, a role, an AppRole that may do all.
async fn openbao(world: &VaultServer) -> (OpenBao, Value) {
    let bao = OpenBao::start(&world.setup.path("")).await;
    let post = async |path: &str, body: Value| bao.call(Method::POST, path, body).await;
    let mount = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
    post("sys/mounts/pki", mount).await;
    let root = json!({ "common_name": "root", "key_type": "ec", "key_bits": 256, "ttl": "87600h" });
    post("pki/root/generate/internal", root).await;
    let role = json!({
        "allow_any_name": true, "require_cn": false, "key_type": "any", "max_ttl": "2160h", "ttl": "24h",
    });
    post("pki/roles/web", role).await;
    let policy = "path \"*\" {\n capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"]\n}";
    post("sys/policies/acl/all", json!({ "policy": policy })).await;
    bao.enable_login("approle").await;
    let role = json!({ "token_policies": "all", "token_ttl": "1h", "token_max_ttl": "24h" });
    post("auth/approle/role/admin", role).await;
    let id = bao
        .call(Method::GET, "auth/approle/role/admin/role-id", json!({}))
        .await;
    let secret = post("auth/approle/role/admin/secret-id", json!({})).await;
    let login =
        json!({ "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"] });
    (bao, login)
}

/// One of both servers.
enum Side<'a> {
    OpenBao(&'a OpenBao),
    Own(&'a Vault),
}

impl Side<'_> {
    async fn answer(
        &self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> (u16, String) {
        match self {
            Self::OpenBao(bao) => bao.answer(method.clone(), path, token, body).await,
            Self::Own(vault) => {
                let vault = match token {
                    Some(token) => vault.with_token(token),
                    None => (*vault).clone(),
                };
                let answer = vault.call(method.clone(), path, &body).await;
                (answer.status, answer.text)
            }
        }
    }

    /// What each call is answered with.
    async fn all(&self, calls: &[Call], login: &Value) -> Vec<(u16, String)> {
        let (status, answer) = self
            .answer(&Method::PUT, "auth/approle/login", None, login.to_string())
            .await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let token = answer["auth"]["client_token"].as_str().unwrap();
        let mut answers = Vec::new();
        for call in calls {
            let token = match call.token {
                Token::Own => Some(token),
                Token::None => None,
                Token::Unknown => Some("nobodys"),
            };
            let body = match call.path {
                "auth/approle/login" if call.body == "LOGIN" => login.to_string(),
                _ => call.body.clone(),
            };
            answers.push(self.answer(&call.method, call.path, token, body).await);
        }
        answers
    }
}

/// The table of the page: the differences of each call that has any. A row may be that of several.
fn documented() -> BTreeMap<String, String> {
    let page = fs::read_to_string(repository("docs/reference/vault.md")).unwrap();
    let (_, after) = page.split_once(HEADING).unwrap();
    let (section, _) = after.split_once("\n## ").unwrap_or((after, ""));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "call, differences, reason: {row}");
        assert!(!cells[2].is_empty(), "a reason: {row}");
        let names = cells[0].split('`').skip(1).step_by(2);
        let differences = cells[1].to_owned();
        names.map(move |name| (name.to_owned(), differences.clone()))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_to_openbao_is_documented() {
    let world = VaultServer::start().await;
    let (bao, login) = openbao(&world).await;
    let calls = calls();
    let theirs = Side::OpenBao(&bao).all(&calls, &login).await;
    let login = json!({ "role_id": "admin", "secret_id": world.setup.operator });
    let own = Side::Own(&world.client).all(&calls, &login).await;

    let mut found = BTreeMap::new();
    for ((call, theirs), own) in calls.iter().zip(&theirs).zip(&own) {
        let differences = differences(theirs, own);
        if !differences.is_empty() {
            found.insert(call.name.to_owned(), differences.join(", "));
        }
    }
    let documented = documented();
    let mut wrong = Vec::new();
    for (name, differences) in &found {
        if documented.get(name) != Some(differences) {
            wrong.push(format!("| `{name}` | {differences} | |"));
        }
    }
    for name in documented.keys().filter(|name| !found.contains_key(*name)) {
        wrong.push(format!("`{name}` no longer differs, or is not called"));
    }
    assert!(
        wrong.is_empty(),
        "docs/reference/vault.md lacks, or has otherwise:\n{}",
        wrong.join("\n")
    );
    world.server.stop().await;
}
