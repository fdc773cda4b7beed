//! Tokens of a cluster's service accounts, by its API server's keys alone: what is certain, and what only
//! the API server can decide.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rootbridge::authn::{AuthnError, BoundToken, KeySource, Pod, ServiceAccountKeys};
use rootbridge::clock::{FixedClock, UnixTime};
use serde_json::{Value, json};

use crate::support::{ISSUER, JwtKey, NOW, claims, jwks};

/// A key set that is always there.
#[derive(Debug)]
struct Published(String);

impl KeySource for Published {
    fn read(&self, limit: usize) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        assert!(self.0.len() <= limit);
        async { Ok(self.0.clone().into_bytes()) }.boxed()
    }
}

fn keys(published: &[&JwtKey]) -> ServiceAccountKeys {
    let source = Arc::new(Published(jwks(published)));
    let clock = Arc::new(FixedClock::new(UnixTime::from_secs(NOW)));
    ServiceAccountKeys::start("east", source, clock)
}

/// The claims with some of them set, by JSON pointers.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = claims.pointer_mut(parent).unwrap();
        match value {
            Value::Null => drop(parent.as_object_mut().unwrap().remove(name)),
            value => parent[name] = value.clone(),
        }
    }
    claims
}

/// What is decided of a token: the objects it is bound to, "rejected: " and why, or "review: " and why.
async fn verdict(keys: &ServiceAccountKeys, token: &str) -> Result<BoundToken, String> {
    match keys.verify(token, ISSUER, "istio-ca").await {
        Ok(Ok(bound)) => Ok(bound),
        Ok(Err(why)) => Err(format!("review: {why}")),
        Err(AuthnError::Rejected { reason }) => Err(format!("rejected: {reason}")),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_verified_token_names_its_pod_and_account() {
    let key = JwtKey::p256("k");
    let keys = keys(&[&key]);
    let expected = BoundToken {
        account: "bar".to_owned(),
        account_uid: "0b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e".to_owned(),
        pod: Pod {
            namespace: "foo".to_owned(),
            name: "bar-6d4cf56db6-x2x4k".to_owned(),
            uid: "1b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e".to_owned(),
        },
        node: Some("node-1".to_owned()),
        key_id: Some("k".to_owned()),
    };
    assert_eq!(
        verdict(&keys, &key.token(&claims())).await,
        Ok(expected.clone())
    );
    // Before Kubernetes 1.30 tokens name no node.
    let nodeless = key.token(&with(&[("/kubernetes.io/node", Value::Null)]));
    let node = None;
    assert_eq!(
        verdict(&keys, &nodeless).await,
        Ok(BoundToken { node, ..expected })
    );
}

#[tokio::test]
async fn each_claim_decides() {
    let key = JwtKey::p256("k");
    let keys = keys(&[&key]);
    let bound = "review: it is not bound to a pod and its account";
    let early = "review: it is not valid yet by this server's clock";
    for (changes, says) in [
        // Times: its last second is its last, and the API server's clock may be a minute ahead.
        (
            vec![("/exp", json!(NOW))],
            "rejected: by the keys of cluster east: the token expired at",
        ),
        (vec![("/exp", json!(NOW + 1))], ""),
        (vec![("/nbf", json!(NOW + 60))], ""),
        (vec![("/nbf", json!(NOW + 61))], early),
        (vec![("/iat", json!(NOW + 60))], ""),
        (vec![("/iat", json!(NOW + 61))], early),
        (vec![("/nbf", Value::Null), ("/iat", Value::Null)], ""),
        (
            vec![("/aud", json!(["other"]))],
            "rejected: by the keys of cluster east: the token is not for the audience istio-ca; it is for \"other\"",
        ),
        (vec![("/aud", json!([]))], "rejected: "),
        (vec![("/aud", json!("istio-ca"))], ""),
        (
            vec![("/iss", json!("https://other"))],
            "review: its issuer is",
        ),
        // Bindings: to a pod and to the account that `sub` names, in its namespace.
        (
            vec![("/sub", json!("system:serviceaccount:foo:other"))],
            bound,
        ),
        (
            vec![("/sub", json!("system:serviceaccount:other:bar"))],
            bound,
        ),
        (vec![("/sub", json!("system:node:n1"))], bound),
        (vec![("/kubernetes.io/namespace", json!("other"))], bound),
        (vec![("/kubernetes.io/namespace", Value::Null)], bound),
        (
            vec![("/kubernetes.io/serviceaccount/name", json!("other"))],
            bound,
        ),
        (vec![("/kubernetes.io/serviceaccount", Value::Null)], bound),
        (vec![("/kubernetes.io/pod", Value::Null)], bound),
        (vec![("/kubernetes.io", Value::Null)], bound),
    ] {
        let answer = verdict(&keys, &key.token(&with(&changes))).await;
        match (says, &answer) {
            ("", Ok(_)) => {}
            ("", Err(why)) => panic!("{changes:?}: {why}"),
            (_, Ok(bound)) => panic!("{changes:?}: {bound:?}"),
            (says, Err(why)) => assert!(why.starts_with(says), "{changes:?}: {why}"),
        }
    }
}

/// A wrong signature is certain; a key or an algorithm that is not published is not.
#[tokio::test]
async fn the_signature_decides_where_the_key_is_known() {
    let (one, two) = (JwtKey::p256("one"), JwtKey::p256("two"));
    let both = keys(&[&one, &two]);
    let of = |header: Value| one.token_of(&header.to_string(), &claims().to_string());
    let mut spoiled = one.token(&with(&[("/sub", json!("system:serviceaccount:foo:bar"))]));
    let last = spoiled.pop().unwrap();
    spoiled.insert(spoiled.len() - 8, if last == 'A' { 'B' } else { 'A' });
    for (token, says) in [
        (
            JwtKey::p256("one").token(&claims()),
            "rejected: by the keys of cluster east: ",
        ),
        (spoiled, "rejected: "),
        (of(json!({ "alg": "ES384", "kid": "one" })), "rejected: "),
        (of(json!({ "alg": "ES256" })), "review: "),
        (
            of(json!({ "alg": "HS256", "kid": "one" })),
            "review: its algorithm is",
        ),
        (
            of(json!({ "alg": "none", "kid": "one" })),
            "review: its algorithm is",
        ),
        (
            JwtKey::p256("three").token(&claims()),
            "review: the API server publishes no such key",
        ),
    ] {
        let why = verdict(&both, &token).await.unwrap_err();
        assert!(why.starts_with(says), "{says}: {why}");
        assert!(!why.contains(&token), "{why}");
    }
    assert!(verdict(&both, &one.token(&claims())).await.is_ok());
    assert!(verdict(&both, &two.token(&claims())).await.is_ok());
    let report = both.report();
    assert_eq!((report.keys, report.failure), (2, None));
}
