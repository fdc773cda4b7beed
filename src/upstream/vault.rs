//! Vault and OpenBao: `sign-intermediate` of a PKI secrets engine, with a token, an AppRole, a
//! service account of Kubernetes or a client certificate.
//!
//! The two calls are made here and not by vaultrs: docs/architecture.md says why.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderName, StatusCode};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::http::{HttpAnswer, HttpClient, HttpConfig, with_json, with_secret};
use super::raw::{RawLogin, RawUpstream, required};
use super::secret::SecretSource;
use crate::config_issue::{ConfigIssue, ConfigIssues};

const SHOWN: usize = 1000;
/// Where a pod has the token of its service account.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// `kind = "vault"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VaultConfig {
    http: HttpConfig,
    namespace: Option<String>,
    /// What is posted to.
    path: String,
    login: Login,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Login {
    Token(SecretSource),
    /// Each attempt gets a token of its own.
    Method {
        mount: String,
        credential: Credential,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    AppRole {
        role_id: String,
        secret_id: SecretSource,
    },
    Kubernetes {
        role: String,
        token: SecretSource,
    },
    /// It is in TLS.
    Certificate {
        role: Option<String>,
    },
}

impl VaultConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let has_certificate = raw.client_certificate_file.is_some();
        let http = issues.collect(HttpConfig::from_raw(raw, timeout));
        let mount = raw.mount.take().unwrap_or_else(|| "pki".to_owned());
        let mount = issues.collect(path("mount", &mount));
        let issuer = raw.issuer.take().map(|issuer| path("issuer", &issuer));
        let issuer = issues.collect(issuer.transpose());
        let namespace = raw.namespace.take().map(|name| path("namespace", &name));
        let namespace = issues.collect(namespace.transpose());
        let login = issues.collect(Login::from_raw(raw, has_certificate));
        let value = || {
            let mount = mount?;
            Some(Self {
                http: http?,
                namespace: namespace?,
                path: match issuer? {
                    Some(issuer) => format!("{mount}/issuer/{issuer}/sign-intermediate"),
                    None => format!("{mount}/root/sign-intermediate"),
                },
                login: login?,
            })
        };
        issues.into_result(value())
    }
}

impl Login {
    fn from_raw(raw: &mut RawUpstream, has_certificate: bool) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let method = |raw: &mut RawUpstream, name: &str, credential| {
            let mount = raw.login_mount.take();
            let mount = path("login_mount", &mount.unwrap_or_else(|| name.to_owned()))?;
            Ok::<_, ConfigIssue>(Self::Method { mount, credential })
        };
        let value = match raw.login.take().unwrap_or(RawLogin::Token) {
            RawLogin::Token => {
                let source =
                    SecretSource::from_raw("token", raw.token_file.take(), raw.token_env.take());
                issues.collect(source).map(Self::Token)
            }
            RawLogin::Approle => {
                let role_id = issues.collect(required(raw.role_id.take(), "role_id"));
                let secret_id = issues.collect(SecretSource::from_raw(
                    "secret_id",
                    raw.secret_id_file.take(),
                    raw.secret_id_env.take(),
                ));
                let credential = role_id
                    .zip(secret_id)
                    .map(|(role_id, secret_id)| Credential::AppRole { role_id, secret_id });
                credential.and_then(|credential| issues.collect(method(raw, "approle", credential)))
            }
            RawLogin::Kubernetes => {
                let role = issues.collect(required(raw.role.take(), "role"));
                let file = raw.token_file.take();
                let file = file.or_else(|| raw.token_env.is_none().then(|| OWN_TOKEN.into()));
                let token = SecretSource::from_raw("token", file, raw.token_env.take());
                let token = issues.collect(token);
                let credential = role
                    .zip(token)
                    .map(|(role, token)| Credential::Kubernetes { role, token });
                credential
                    .and_then(|credential| issues.collect(method(raw, "kubernetes", credential)))
            }
            RawLogin::Cert => {
                issues.require(
                    has_certificate,
                    "client_certificate_file",
                    "is missing: login = \"cert\" shows it",
                );
                let role = raw.role.take();
                issues.collect(method(raw, "cert", Credential::Certificate { role }))
            }
        };
        issues.into_result(value)
    }
}

/// A part of a URL's path.
fn path(key: &str, text: &str) -> Result<String, ConfigIssue> {
    let trimmed = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let has_dots = trimmed
        .split('/')
        .any(|part| part.chars().all(|c| c == '.'));
    match trimmed.chars().all(is_plain) && !has_dots {
        true => Ok(trimmed.to_owned()),
        false => {
            let problem = format_args!("{:?} is no path of letters, digits, - _ . and /", text);
            Err(ConfigIssue::new(key, problem))
        }
    }
}

#[derive(Debug)]
pub(super) struct VaultCa(VaultConfig);

/// What an answer holds, of every call here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    data: Value,
    auth: Option<Auth>,
    errors: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
}

impl VaultCa {
    pub(super) fn new(config: VaultConfig) -> Self {
        Self(config)
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.0.http.client().await?;
        let token = self.token(&client).await?;
        let body = json!({
            "csr": request.csr_pem(),
            "use_csr_values": true,
            "format": "pem",
            "ttl": format!("{}s", request.ttl.as_secs()),
            "max_path_length": request.path_len,
        });
        let call = self.call(client.post(&self.at(&self.0.path)), Some(&token))?;
        let answer = client.send(with_json(call, &body)).await;
        self.end(&client, &token).await;
        let answer = answer?;
        match answer.status {
            StatusCode::OK => Ok(Answer::Issued(certificates(&answer)?)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                let said = one_line(&said(&answer), SHOWN);
                Ok(Answer::Refused(match said.as_str() {
                    "" => format!("Vault answered {} without a reason", answer.status),
                    said => said.to_owned(),
                }))
            }
            _ => Err(answer.unreachable(&self.0.path, &said(&answer))),
        }
    }

    /// A token for the calls of one attempt.
    async fn token(&self, client: &HttpClient) -> Result<SecretString, Unreachable> {
        let (mount, credential) = match &self.0.login {
            Login::Token(source) => return source.read(),
            Login::Method { mount, credential } => (mount, credential),
        };
        let path = format!("auth/{mount}/login");
        let body = match credential {
            Credential::AppRole { role_id, secret_id } => {
                json!({ "role_id": role_id, "secret_id": secret_id.read()?.expose_secret() })
            }
            Credential::Kubernetes { role, token } => {
                json!({ "role": role, "jwt": token.read()?.expose_secret() })
            }
            Credential::Certificate { role: Some(role) } => json!({ "name": role }),
            Credential::Certificate { role: None } => json!({}),
        };
        let call = self.call(client.post(&self.at(&path)), None)?;
        let call = with_json(call, &body);
        let answer = client.send(call).await?;
        let auth = parse(&answer).and_then(|body| body.auth);
        match (answer.status, auth) {
            (StatusCode::OK, Some(auth)) => Ok(SecretString::from(auth.client_token)),
            _ => Err(answer.unreachable(&path, &said(&answer))),
        }
    }

    /// Ends a token that a login made for this attempt.
    async fn end(&self, client: &HttpClient, token: &SecretString) {
        if matches!(self.0.login, Login::Token(_)) {
            return;
        }
        // It ends by itself soon.
        if let Ok(call) = self.call(client.post("v1/auth/token/revoke-self"), Some(token)) {
            let _ = client.send(call).await;
        }
    }

    fn at(&self, path: &str) -> String {
        format!("v1/{path}")
    }

    fn call(
        &self,
        request: RequestBuilder,
        token: Option<&SecretString>,
    ) -> Result<RequestBuilder, Unreachable> {
        let mut request = request.header("X-Vault-Request", "true");
        if let Some(namespace) = &self.0.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let Some(token) = token else {
            return Ok(request);
        };
        with_secret(request, TOKEN, token.expose_secret())
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let client = self.0.http.client().await?;
        let health = client.send(client.get("v1/sys/health")).await?;
        let mut found = vec![match health.status.as_u16() {
            200 => "it answers, and is active".to_owned(),
            429 | 472 | 473 => "it answers, and is a standby that forwards calls".to_owned(),
            501 => return Err(health.unreachable("sys/health", "it is not initialized")),
            503 => return Err(health.unreachable("sys/health", "it is sealed")),
            _ => return Err(health.unreachable("sys/health", &said(&health))),
        }];
        let token = self.token(&client).await?;
        let path = &self.0.path;
        let asked = json!({ "paths": [path] });
        let call = client.post("v1/sys/capabilities-self");
        let call = self.call(call, Some(&token))?;
        let answer = client.send(with_json(call, &asked)).await;
        self.end(&client, &token).await;
        let answer = answer?;
        if answer.status != StatusCode::OK {
            return Err(answer.unreachable("sys/capabilities-self", &said(&answer)));
        }
        found.push("it accepts the credential".to_owned());
        let body = parse(&answer).unwrap_or_default();
        let listed = body.data.get(path).and_then(Value::as_array);
        let listed: Vec<_> = listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !listed.iter().any(|each| matches!(*each, "update" | "root")) {
            return Err(Unreachable::new(format!(
                "its policies do not let the credential update {path} (it has: {})",
                listed.join(", ")
            )));
        }
        found.push(format!("the credential may sign CAs: update {path}"));
        Ok(found)
    }
}

impl UpstreamCa for VaultCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}

fn parse(answer: &HttpAnswer) -> Option<Body> {
    serde_json::from_slice(&answer.body).ok()
}

fn said(answer: &HttpAnswer) -> String {
    let errors = parse(answer).and_then(|body| body.errors);
    errors.unwrap_or_default().join("; ")
}

/// The certificate, and those above it.
fn certificates(answer: &HttpAnswer) -> Result<Vec<u8>, Unreachable> {
    let body = parse(answer);
    let Some(data) = body.map(|body| body.data).filter(Value::is_object) else {
        // It names the format of what is there instead, such as a proxy's page.
        return Ok(answer.body.to_vec());
    };
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let chain = data.get("ca_chain").and_then(Value::as_array);
    let chain = chain.into_iter().flatten().filter_map(Value::as_str);
    let all = [text("certificate"), text("issuing_ca")]
        .into_iter()
        .chain(chain);
    Ok(all.collect::<Vec<_>>().join("\n").into_bytes())
}
