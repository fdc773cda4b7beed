//! An examination of a cluster from outside, for `rootbridge check`: each question on its own, with
//! the credential that the server has.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use kube::client::Body;
use kube::{Client, Config};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::config::ClusterConfig;
use super::connection::client_config;
use super::permission::Permission;
use super::request::ask;
use crate::clock::UnixTime;
use crate::error_chain::error_chain;

const TIME: Duration = Duration::from_secs(5);
/// A page of a list.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A way to a cluster's API server, for questions.
pub struct Inspector {
    client: Client,
    /// The credential, where it is a token.
    token: Option<String>,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Such as `v1.37.2`.
    pub version: String,
    /// Its clock, to the second.
    pub date: Option<UnixTime>,
}

/// Whether the API server checks for whom a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceCheck {
    /// It said for which audience it had accepted the token.
    Confirmed,
    /// It accepted a token and did not say for which audience: every review would be a rejection.
    NotConfirmed,
    /// The credential is no token that could be tried.
    NotTested,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspector")
    }
}

impl Inspector {
    /// Reads the kubeconfig, or what a pod is told.
    ///
    /// # Errors
    /// Why there is no way to the API server.
    pub async fn new(config: &ClusterConfig) -> Result<Self, String> {
        let text = match config.kubeconfig() {
            Some(path) => Some(
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| format!("kubeconfig {}: {error}", path.display()))?,
            ),
            None => None,
        };
        let settings = client_config(config, text.as_deref()).await?;
        let token = token(&settings).await;
        let client = Client::try_from(settings).map_err(|error| error_chain(&error))?;
        Ok(Self { client, token })
    }

    /// Whether it answers, as what, and when.
    ///
    /// # Errors
    /// What came instead of an answer.
    pub async fn server_info(&self) -> Result<ServerInfo, String> {
        let request = Request::get("/version")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let response = tokio::time::timeout(TIME, self.client.send(request))
            .await
            .map_err(|_| format!("no answer within {} s", TIME.as_secs()))?
            .map_err(|error| error_chain(&error))?;
        let date = response.headers().get(http::header::DATE);
        let date = date
            .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok())
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .map(UnixTime::from_secs);
        let version = match response.status().is_success() {
            true => text(&self.get("/version").await?, "/gitVersion"),
            false => format!("answers {}", response.status()),
        };
        Ok(ServerInfo { version, date })
    }

    /// Whether the credential has a right (SelfSubjectAccessReview).
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn has_permission(&self, right: &Permission) -> Result<bool, String> {
        let (resource, subresource) = match right.resource.split_once('/') {
            Some((resource, sub)) => (resource, sub),
            None => (right.resource, ""),
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": right.verb,
                "group": right.group,
                "resource": resource,
                "subresource": subresource,
                "name": right.name.as_deref().unwrap_or_default(),
                "namespace": right.namespace.as_deref().unwrap_or_default(),
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.post(path, &review).await?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool);
        allowed.ok_or_else(|| "the answer is no SelfSubjectAccessReview".to_owned())
    }

    /// Whether the API server says for which audience it accepted a token; tried with its own.
    ///
    /// # Errors
    /// When the API server does not answer the review.
    pub async fn check_audience(&self) -> Result<AudienceCheck, String> {
        let Some((token, audience)) = self.token.as_ref().and_then(|t| Some((t, audience(t)?)))
        else {
            return Ok(AudienceCheck::NotTested);
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [audience] },
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = self.post(path, &review).await?;
        if answer.pointer("/status/authenticated") != Some(&Value::Bool(true)) {
            return Ok(AudienceCheck::NotTested);
        }
        let echoed = answer
            .pointer("/status/audiences")
            .and_then(Value::as_array);
        let said = echoed.is_some_and(|all| all.iter().any(|each| each == audience.as_str()));
        Ok(if said {
            AudienceCheck::Confirmed
        } else {
            AudienceCheck::NotConfirmed
        })
    }

    /// Any object or list, as JSON.
    ///
    /// # Errors
    /// What came instead of it.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let request = Request::get(path).body(Vec::new());
        self.json(request.map_err(|error| error.to_string())?).await
    }

    /// Hands over every object of a list, `limit` on a page. `path` has its query begun.
    ///
    /// # Errors
    /// What came instead of a page; some objects may have been handed over.
    pub async fn for_each(
        &self,
        path: &str,
        limit: usize,
        mut found: impl FnMut(Value),
    ) -> Result<(), String> {
        let mut next = String::new();
        loop {
            let page = format!("{path}&limit={limit}&continue={next}");
            let mut answer = self.get(&page).await?;
            if let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) {
                items.into_iter().for_each(&mut found);
            }
            let token = answer.pointer("/metadata/continue").and_then(Value::as_str);
            match token.filter(|token| !token.is_empty()) {
                // Base64 for URLs: nothing in it needs escaping but its padding.
                Some(token) => {
                    let token = token.replace('=', "%3D");
                    if token == next {
                        return Err("the list does not go on".to_owned());
                    }
                    next = token;
                }
                None => return Ok(()),
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        self.json(request).await
    }

    async fn json(&self, request: Request<Vec<u8>>) -> Result<Value, String> {
        let answer = ask(&self.client, request, MAX_ANSWER, TIME).await;
        let answer = answer.map_err(|error| error.to_string())?;
        // Its errors quote what they found, which may be a token.
        serde_json::from_slice(&answer).map_err(|_| "the answer is not JSON".to_owned())
    }
}

/// The credential of a kubeconfig or a pod, where it is a token.
async fn token(settings: &Config) -> Option<String> {
    let auth = &settings.auth_info;
    match (&auth.token, &auth.token_file) {
        (Some(token), _) => Some(token.expose_secret().to_owned()),
        (None, Some(file)) => {
            let text = tokio::fs::read_to_string(file).await.ok()?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    }
}

/// The first audience that a token names, unverified: it is the API server that judges it.
fn audience(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let named = claims.pointer("/aud/0").or_else(|| claims.get("aud"))?;
    named.as_str().map(str::to_owned)
}

fn text(value: &Value, path: &str) -> String {
    let found = value.pointer(path).and_then(Value::as_str);
    found.unwrap_or("a version it does not say").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_of_a_token() {
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        let found = |claims| audience(&token(claims));
        assert_eq!(found(r#"{"aud":["a","b"]}"#).as_deref(), Some("a"));
        assert_eq!(found(r#"{"aud":"a"}"#).as_deref(), Some("a"));
        assert_eq!(found(r#"{"aud":[]}"#), None);
        assert_eq!(found("[]"), None);
        assert_eq!(audience("opaque"), None);
    }
}
