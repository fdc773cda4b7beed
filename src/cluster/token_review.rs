//! TokenReview: the API server authenticates a token.
//!
//! A token is accepted, rejected, or undecided. Only a TokenReview with `authenticated: false`, or one
//! whose user may not call, is a rejection; any other failure is not the caller's fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{ApiError, Bounds, post};
use super::callers::CallersConfig;
use super::connection::Connection;
use super::review_gate::{ReviewGate, ReviewRequest};
use crate::authn::{AuthnError, Pod, Quoted, service_account};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// In bytes; the answer repeats the token.
const MAX_ANSWER: usize = 256 * 1024;
/// The group of every service account.
const GROUP: &str = "system:serviceaccounts";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Sends TokenReviews to one API server, a limited number at a time.
#[derive(Debug)]
pub(super) struct TokenReviewer {
    gate: Arc<ReviewGate>,
    time: Duration,
}

/// The service account, and the pod, that an accepted token was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSubject {
    pub namespace: String,
    pub account: String,
    pub pod: Option<Pod>,
    pub node: Option<String>,
}

impl TokenReviewer {
    pub(super) fn new(config: &CallersConfig) -> Self {
        Self {
            gate: ReviewGate::new(usize::try_from(config.review_concurrency()).unwrap_or(1)),
            time: config.review_timeout(),
        }
    }

    pub(super) async fn review(
        &self,
        connection: &Connection,
        token: &str,
        audience: &str,
        review: &ReviewRequest,
    ) -> Result<TokenSubject, AuthnError> {
        let started = Instant::now();
        let client = connection
            .client()
            .await
            .map_err(|down| AuthnError::Unavailable(down.to_string()))?;
        let entered = tokio::time::timeout(self.time, self.gate.enter(review)).await;
        let _permit = entered.map_err(|_| timeout("too many TokenReviews are in progress"))??;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [audience] },
        });
        let left = self.time.saturating_sub(started.elapsed());
        // The first ones have just waited in vain; another would be given no time.
        if left < self.time / 20 {
            return Err(timeout("the API server had no time for it"));
        }
        let bounds = Bounds {
            bytes: MAX_ANSWER,
            time: left,
        };
        let request = post(PATH, &body).map_err(unavailable)?;
        let answer = client.send_confidential(request, bounds).await;
        let answer = answer.map_err(|error| match error {
            ApiError::Timeout(_) => timeout(error),
            _ => unavailable(error),
        })?;
        let verdict = evaluate(&answer, token, audience);
        self.gate.conclude(review, &verdict);
        verdict
    }
}

fn unavailable(why: impl std::fmt::Display) -> AuthnError {
    AuthnError::Unavailable(format!("TokenReview: {why}"))
}

fn timeout(why: impl std::fmt::Display) -> AuthnError {
    AuthnError::Timeout(format!("TokenReview: {why}"))
}

fn rejected(why: impl std::fmt::Display) -> AuthnError {
    AuthnError::rejected(format_args!("by TokenReview: {why}"))
}

#[derive(Deserialize)]
struct Review {
    kind: String,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    /// Absent when it is false.
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    error: String,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// Evaluates the API server's answer. `token` is here only so that no error repeats it.
///
/// # Errors
/// [`AuthnError::Rejected`] when the API server says no, [`AuthnError::Unavailable`] when it does not say.
pub fn evaluate(answer: &[u8], token: &str, audience: &str) -> Result<TokenSubject, AuthnError> {
    // The errors of serde_json quote what they found, which may be the token.
    let answer: Value =
        serde_json::from_slice(answer).map_err(|_| unavailable("the answer is not JSON"))?;
    // serde would also fill a struct from an array, by position.
    let object = |path| answer.pointer(path).is_none_or(Value::is_object);
    if !["", "/status", "/status/user"].into_iter().all(object) {
        return Err(unavailable("the answer has something else for an object"));
    }
    let review = Review::deserialize(&answer)
        .map_err(|_| unavailable("the answer has a field of another type"))?;
    if review.kind != "TokenReview" {
        return Err(unavailable("the answer is not a TokenReview"));
    }
    let Status {
        authenticated,
        user,
        audiences,
        error,
    } = review.status;
    if !authenticated {
        let message = match error.contains(token) {
            true => "it repeats the token",
            false => error.as_str(),
        };
        return Err(rejected(format_args!(
            "not authenticated: {}",
            Quoted(message)
        )));
    }
    // An API server that does not support audiences returns none, and has checked none.
    if !audiences.iter().any(|each| each == audience) {
        return Err(rejected(format_args!(
            "the API server did not say that the token is for {audience}"
        )));
    }
    if !user.groups.iter().any(|group| group == GROUP) {
        return Err(rejected("it is no service account's token"));
    }
    let (namespace, account) = service_account(&user.username)
        .ok_or_else(|| rejected("the user is not system:serviceaccount:NAMESPACE:NAME"))?;
    let pod = match (one(&user.extra, POD_NAME)?, one(&user.extra, POD_UID)?) {
        (Some(name), Some(uid)) => Some(Pod {
            name: name.to_owned(),
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
        }),
        (None, None) => None,
        _ => return Err(unavailable("of the pod's name and UID one is missing")),
    };
    // A token may be bound to a node and to no pod; that node is not where a pod runs.
    let node = pod.as_ref().map(|_| one(&user.extra, NODE_NAME));
    Ok(TokenSubject {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod,
        node: node.transpose()?.flatten().map(str::to_owned),
    })
}

/// The single value of an extra field.
fn one<'e>(
    extra: &'e BTreeMap<String, Vec<String>>,
    key: &str,
) -> Result<Option<&'e str>, AuthnError> {
    let plain = |text: &String| {
        (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match extra.get(key).map(Vec::as_slice) {
        None => Ok(None),
        Some([value]) if plain(value) => Ok(Some(value)),
        Some(_) => Err(unavailable(format_args!("{key} has no single plain value"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOKEN: &str = "aaaa.bbbb.cccc";

    fn good() -> Value {
        json!({
            "kind": "TokenReview",
            "status": {
                "authenticated": true,
                "audiences": ["istio-ca"],
                "user": {
                    "username": "system:serviceaccount:shop:cart",
                    "groups": ["system:serviceaccounts", "system:authenticated"],
                    "extra": { POD_NAME: ["cart-1"], POD_UID: ["u-1"], NODE_NAME: ["n1"] },
                },
            },
        })
    }

    fn evaluated(answer: &Value) -> Result<TokenSubject, AuthnError> {
        evaluate(answer.to_string().as_bytes(), TOKEN, "istio-ca")
    }

    fn with(path: &str, value: Value) -> Value {
        let mut all = good();
        *all.pointer_mut(path).unwrap() = value;
        all
    }

    #[test]
    fn a_pods_token_authenticates_its_account() {
        let reviewed = evaluated(&good()).unwrap();
        assert_eq!(
            (reviewed.namespace.as_str(), reviewed.account.as_str()),
            ("shop", "cart")
        );
        assert_eq!(reviewed.pod.unwrap().uid, "u-1");
        assert_eq!(reviewed.node.as_deref(), Some("n1"));
    }

    #[test]
    fn a_node_without_a_pod_is_ignored() {
        let reviewed =
            evaluated(&with("/status/user/extra", json!({ NODE_NAME: ["n1"] }))).unwrap();
        assert_eq!((reviewed.pod, reviewed.node), (None, None));
    }

    #[test]
    fn a_definite_no_is_a_rejection() {
        for answer in [
            with("/status/authenticated", json!(false)),
            with("/status/audiences", json!([])),
            with("/status/audiences", json!(["other", "istio-ca2"])),
            with("/status/user/groups", json!(["system:authenticated"])),
            with("/status/user/username", json!("system:serviceaccount")),
            with(
                "/status/user/username",
                json!("system:serviceaccount:a:b:c"),
            ),
            with("/status/user/username", json!("admin")),
            json!({ "kind": "TokenReview", "status": {} }),
        ] {
            let error = evaluated(&answer).unwrap_err();
            assert!(
                matches!(error, AuthnError::Rejected { .. }),
                "{answer}: {error}"
            );
        }
    }

    #[test]
    fn an_invalid_answer_is_undecided() {
        for answer in [
            json!({}),
            json!([]),
            json!("yes"),
            json!({ "kind": "Status", "status": {} }),
            json!({ "kind": "TokenReview", "status": "Failure" }),
            json!({ "kind": "TokenReview" }),
            with("/status/authenticated", json!("true")),
            with("/status/authenticated", json!(1)),
            with("/status/authenticated", Value::Null),
            with("/status/audiences", json!("istio-ca")),
            with("/status/audiences", json!([1])),
            with("/status/user", json!([])),
            with("/status/user/username", json!(7)),
            with(
                "/status/user/groups",
                json!({ "system:serviceaccounts": true }),
            ),
            with("/status/user/extra", json!([])),
            with(
                "/status/user/extra",
                json!({ POD_NAME: "cart-1", POD_UID: "u" }),
            ),
            with(
                "/status/user/extra",
                json!({ POD_NAME: ["a", "b"], POD_UID: ["u"] }),
            ),
            with("/status/user/extra", json!({ POD_NAME: ["a"] })),
            with("/status/user/extra", json!({ POD_UID: ["u"] })),
            with(
                "/status/user/extra",
                json!({ POD_NAME: [""], POD_UID: ["u"] }),
            ),
            with(
                "/status/user/extra",
                json!({ POD_NAME: ["a b"], POD_UID: ["u"] }),
            ),
        ] {
            let error = evaluated(&answer).unwrap_err();
            assert!(
                matches!(error, AuthnError::Unavailable(_)),
                "{answer}: {error}"
            );
        }
        assert!(evaluate(b"", TOKEN, "istio-ca").is_err());
        assert!(evaluate(&[0xff; 64], TOKEN, "istio-ca").is_err());
    }

    #[test]
    fn no_error_repeats_the_token() {
        for answer in [
            json!({ "kind": "TokenReview", "status": { "error": format!("bad {TOKEN}") } }),
            json!({ "kind": "TokenReview", "status": { "authenticated": TOKEN } }),
            json!({ "kind": "TokenReview", "status": TOKEN }),
            json!({ "kind": TOKEN, "status": {} }),
        ] {
            let error = evaluated(&answer).unwrap_err();
            assert!(!format!("{error:?} {error}").contains(TOKEN), "{error}");
        }
    }
}
