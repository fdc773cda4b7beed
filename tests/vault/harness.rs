//! A server with Vault's API, and calls to it as its clients make them.

use std::fs;
use std::sync::Arc;

use reqwest::Method;
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::{Value, json};

/// Another trust domain of the same server.
pub const OTHER_TD: &str = "other.example";

/// A configured server, running.
pub struct VaultServer {
    pub setup: TestServer,
    pub server: RunningServer,
    pub client: Vault,
}

/// A client of one server, with the token that it presents.
#[derive(Clone)]
pub struct Vault {
    http: reqwest::Client,
    pub url: String,
    pub token: Option<String>,
    pub namespace: Option<String>,
    /// What a log may not hold.
    minted: Arc<std::sync::Mutex<Vec<String>>>,
}

/// An answer: status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    pub retry_after: Option<String>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `data` of a call that succeeded.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["data"].clone()
    }

    pub fn warnings(&self) -> String {
        self.json()["warnings"].to_string()
    }

    /// The only error of a call that failed with `status`.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        let errors = body["errors"].as_array().unwrap();
        assert!(
            errors.len() == 1 && body.as_object().unwrap().len() == 1,
            "{self:?}"
        );
        errors[0].as_str().unwrap().to_owned()
    }
}

/// With mounts for each purpose, on an issuing CA that may certify others.
pub fn configured() -> TestServer {
    let setup = TestServer::bare();
    configure(&setup);
    setup.init(TD, &["--path-len", "1"]);
    setup
}

pub fn configure(setup: &TestServer) {
    let audience = "audiences = { istio = \"istio-ca\", certificates = \"rootbridge\" }";
    setup.edit(audience, &audience.replace(" }", ", vault = \"vault\" }"));
    let audience = "audiences = { certificates = \"rootbridge\" }";
    setup.edit(audience, &audience.replace(" }", ", vault = \"vault\" }"));
    let listener = format!(
        r#"
[listeners.vault]
address = "127.0.0.1:0"
apis = ["vault"]
jwt = ["cluster", "people"]
operators = ["admin", "stranger"]
client_certificates = {{ trust_domains = ["{TD}"] }}

[listeners.vault.tls]
trust_domain = "{TD}"
dns = ["localhost"]
ip = ["127.0.0.1"]

[operators.stranger]
trust_domain = "{OTHER_TD}"
credential_file = "{stranger}"

[vault.mount.pki]
authority = "{TD}"
ca_profile = "below"
roles = {{ short = "short" }}

[vault.mount.connect-root]
authority = "{TD}"
presents = "parent"

[vault.mount.connect-inter]
authority = "{TD}"

[vault.mount.team-pki]
authority = "{TD}"
namespace = "team-a"

[profiles.below]
ca = true
default_ttl = "24h"
max_ttl = "72h"

[[policy.rules]]
callers = ["operator:admin"]
profiles = ["below"]
names = ["spiffe://{TD}"]

[jwt.cluster]
"#,
        stranger = setup.path("stranger.token").display(),
    );
    fs::copy(setup.path("other.token"), setup.path("stranger.token")).unwrap();
    setup.edit("\n[jwt.cluster]\n", &listener);
}

impl VaultServer {
    pub async fn start() -> Self {
        Self::of(configured()).await
    }

    pub async fn of(setup: TestServer) -> Self {
        let server = setup.serve().await;
        let client = Vault::connect(&setup, &server, None).await;
        Self {
            setup,
            server,
            client,
        }
    }

    /// With the operator's own credential.
    pub fn operator(&self) -> Vault {
        self.client.with_token(&self.setup.operator)
    }

    /// A service account's token for this API.
    pub fn jwt(&self, namespace: &str, account: &str) -> String {
        self.setup.issuer.mint(&claims(namespace, account, "vault"))
    }

    /// As a service account that has logged in.
    pub async fn workload(&self, namespace: &str, account: &str) -> Vault {
        let body = json!({ "role": "any", "jwt": self.jwt(namespace, account) });
        self.client.login("kubernetes", body).await
    }
}

impl Vault {
    /// `identity`: a chain and a key in PEM.
    pub async fn connect(
        setup: &TestServer,
        server: &RunningServer,
        identity: Option<String>,
    ) -> Self {
        let root = reqwest::Certificate::from_pem(setup.roots(TD).as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([root]);
        if let Some(identity) = identity {
            let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
            builder = builder.identity(identity);
        }
        let client = Self {
            http: builder.build().unwrap(),
            url: format!("https://localhost:{}", server.port_of("vault")),
            token: None,
            namespace: None,
            minted: Arc::clone(&setup.issuer.minted),
        };
        eventually(PATIENCE, "the listener has its certificate", async || {
            let url = format!("{}/v1/sys/seal-status", client.url);
            client.http.get(url).send().await.is_ok()
        })
        .await;
        client
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// Logs in, and returns a client with the token. No log may hold it.
    pub async fn login(&self, method: &str, body: Value) -> Self {
        let answer = self.put(&format!("auth/{method}/login"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = answer.json()["auth"]["client_token"]
            .as_str()
            .unwrap()
            .to_owned();
        self.minted.lock().unwrap().push(token.clone());
        self.with_token(&token)
    }

    pub async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        let mut request = self
            .http
            .request(method, format!("{}/v1/{path}", self.url))
            .header("X-Vault-Request", "true");
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let response = request.body(body.to_owned()).send().await.unwrap();
        let header = response.headers().get("retry-after");
        Answer {
            status: response.status().as_u16(),
            retry_after: header.map(|value| value.to_str().unwrap().to_owned()),
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, &body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no text {name} in {value}"))
}
