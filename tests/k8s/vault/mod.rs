//! Vault's API for callers from a real cluster: logins by their tokens, and a real cert-manager.

mod issuer;
mod login;

use reqwest::{Certificate, Client};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;

/// A client of one server's listener `vault`.
pub(super) struct Vault {
    client: Client,
    url: String,
}

impl Vault {
    pub(super) async fn connect(setup: &TestServer, server: &RunningServer) -> Self {
        let root = Certificate::from_pem(setup.roots(TD).as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([root]).build().unwrap();
        let url = format!("https://localhost:{}", server.port_of("vault"));
        eventually(PATIENCE, "the listener has its certificate", async || {
            let health = client.get(format!("{url}/v1/sys/health")).send().await;
            health.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        Self { client, url }
    }

    /// The status and the body of an answer to a POST.
    pub(super) async fn post(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}/v1/{path}", self.url));
        let request = request.header("X-Vault-Token", token);
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}
