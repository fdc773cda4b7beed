//! Inspects a cluster for `rootbridge check`, with the server's credential.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::api::{ApiClient, ApiError, Bounds, Collection, date, get, post};
use super::config::ClusterConfig;
use super::connection::connect_once;
use super::permission::Permission;
use crate::clock::{Clock, UnixTime};

const BOUNDS: Bounds = Bounds {
    bytes: 256 * 1024,
    time: Duration::from_secs(5),
};

pub struct Inspector {
    client: ApiClient,
    /// The credential, if it is a token.
    token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// For example `v1.37.2`.
    pub version: String,
    /// The API server's clock, to the second.
    pub date: Option<UnixTime>,
}

/// Whether the API server checks a token's audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceCheck {
    /// It returned the audience for which it accepted the token.
    Confirmed,
    /// It accepted the token and returned no audience: every TokenReview would be a rejection.
    NotConfirmed,
    /// The credential is not a token that it accepts.
    NotTested,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspector")
    }
}

impl Inspector {
    pub async fn new(config: &ClusterConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = connect_once(config, clock).await?;
        let headers = client.credential_headers().await.map_err(text)?;
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        Ok(Self {
            token: token.map(str::to_owned),
            client,
        })
    }

    /// Its version and its clock; an API server that refuses to tell its version answers as well.
    pub async fn server_info(&self) -> Result<ServerInfo, String> {
        let response = async { self.client.exchange(get("/version")?, BOUNDS).await };
        let response = response.await.map_err(text)?;
        let version = match response.status().is_success() {
            true => {
                let version: Value = serde_json::from_slice(response.body()).unwrap_or_default();
                let version = version.get("gitVersion").and_then(Value::as_str);
                version.unwrap_or("an unknown version").to_owned()
            }
            false => format!("answers {}", response.status()),
        };
        Ok(ServerInfo {
            version,
            date: date(response.headers()),
        })
    }

    /// Whether the credential has a permission (SelfSubjectAccessReview).
    pub async fn has_permission(&self, permission: &Permission) -> Result<bool, String> {
        let (resource, subresource) = match permission.resource.split_once('/') {
            Some((resource, sub)) => (resource, sub),
            None => (permission.resource, ""),
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": permission.verb,
                "group": permission.group,
                "resource": resource,
                "subresource": subresource,
                "name": permission.name.as_deref().unwrap_or_default(),
                "namespace": permission.namespace.as_deref().unwrap_or_default(),
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.review(path, &review).await?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool);
        allowed.ok_or_else(|| "the answer is no SelfSubjectAccessReview".to_owned())
    }

    /// Reviews the own token for its own audience.
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
        let answer = self.review(path, &review).await?;
        if answer.pointer("/status/authenticated") != Some(&Value::Bool(true)) {
            return Ok(AudienceCheck::NotTested);
        }
        let echoed = answer
            .pointer("/status/audiences")
            .and_then(Value::as_array);
        let confirmed = echoed.is_some_and(|all| all.iter().any(|each| each == audience.as_str()));
        Ok(if confirmed {
            AudienceCheck::Confirmed
        } else {
            AudienceCheck::NotConfirmed
        })
    }

    /// What is at a path, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let found = self.client.get_path(path).await.map_err(text)?;
        found.ok_or_else(|| format!("{path} is not there"))
    }

    /// Passes every object of a collection to `found`; some of them also when it fails.
    pub async fn for_each(
        &self,
        collection: Collection,
        found: impl FnMut(Value),
    ) -> Result<(), String> {
        self.client.for_each(collection, found).await.map_err(text)
    }

    async fn review(&self, path: &str, review: &Value) -> Result<Value, String> {
        let answer = async {
            self.client
                .send_confidential(post(path, review)?, BOUNDS)
                .await
        };
        // The parser's text may quote a token.
        serde_json::from_slice(&answer.await.map_err(text)?)
            .map_err(|_| "the answer is not JSON".to_owned())
    }
}

fn text(error: ApiError) -> String {
    error.to_string()
}

/// A token's first audience, unverified: the API server verifies it.
fn audience(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let named = claims.pointer("/aud/0").or_else(|| claims.get("aud"))?;
    named.as_str().map(str::to_owned)
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
