//! Every claim, and every parameter of the header, mutated in type (CVE-2026-25537):
//! a rejection, never a panic, never a default.

use serde_json::{Value, json};

use crate::support::{Fixture, ISSUER, JwtKey, NOW, claims};

/// JSON texts of every type; `None` is a claim that is missing. Some stand for values that
/// serde_json cannot hold.
const VALUES: [Option<&str>; 30] = [
    None,
    Some("null"),
    Some("true"),
    Some("false"),
    Some("\"\""),
    Some("\"x\""),
    Some("\"1790000600\""),
    Some("0"),
    Some("-1"),
    Some("1.5"),
    Some("1790000600.0"),
    Some("1790000600.5"),
    Some("1.7900006e9"),
    Some("1e300"),
    Some("-1e300"),
    Some("1e400"),
    Some("9223372036854775807"),
    Some("9223372036854775808"),
    Some("18446744073709551615"),
    Some("18446744073709551616"),
    Some("-9223372036854775808"),
    Some("-9223372036854775809"),
    Some("1000000000000000000000000000000000000000"),
    Some("[]"),
    Some("[\"x\"]"),
    Some("[null]"),
    Some("[1]"),
    Some("[[\"istio-ca\"]]"),
    Some("{}"),
    Some("{\"a\":1}"),
];

/// What may stand there all the same: the claim is optional, or the value is of the right type.
fn allowed(path: &str, value: Option<&str>) -> bool {
    // RFC 7519 §2: any JSON number, here of this year or before, or of the future that exists.
    let date = |text: &str| {
        let seconds = text.parse::<f64>().ok().filter(|_| !text.starts_with('"'));
        seconds.filter(|seconds| (0.0..=253_402_300_799.0).contains(seconds))
    };
    let text = |text: &str| text.starts_with('"');
    match (path, value) {
        ("iss" | "sub" | "aud" | "exp" | "alg", None) => false,
        ("kubernetes.io/pod/name" | "kubernetes.io/pod/uid", None) => false,
        ("kubernetes.io/serviceaccount/name", None) => false,
        // The set has one key, so a token need not name it; but not by a wrong name.
        ("nbf" | "iat" | "jti" | "kid" | "typ" | "crit", None) => true,
        (path, None) => path.starts_with("kubernetes.io"),
        // Nothing depends on them.
        ("jti" | "kubernetes.io/node/uid", Some(_)) => true,
        ("typ", Some(value)) => text(value),
        ("nbf" | "iat", Some(value)) => date(value).is_some_and(|at| at <= NOW as f64),
        ("exp", Some(value)) => date(value).is_some_and(|at| at > NOW as f64),
        // A node that is not named, as without a node.
        ("kubernetes.io/node", Some(value)) => value.starts_with('{'),
        // An object that binds to nothing, and names that are only taken down.
        ("kubernetes.io", Some(value)) => value.starts_with('{'),
        (path, Some(value))
            if path.ends_with("pod/name")
                || path.ends_with("node/name")
                || path.ends_with("/uid") =>
        {
            // A service account's UID is not used; an empty name is no pod's.
            text(value) && (value != "\"\"" || !path.contains("/pod/"))
        }
        _ => false,
    }
}

fn mutated(whole: &Value, path: &str, value: Option<&str>) -> String {
    let pointer = format!("/{path}");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut whole = whole.clone();
    let object = whole.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        None => {
            object.remove(name);
            whole.to_string()
        }
        Some(value) => {
            object.insert(name.to_owned(), json!("@here@"));
            whole.to_string().replace("\"@here@\"", value)
        }
    }
}

#[tokio::test]
async fn every_claim_has_its_type() {
    let key = JwtKey::p256("one");
    let fixture = Fixture::new(&[&key]);
    let header = json!({ "alg": "ES256", "kid": "one", "typ": "JWT" });
    assert!(
        fixture
            .authenticate(&key.token_of(&header.to_string(), &claims().to_string()))
            .await
            .is_ok()
    );
    let paths = [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "kubernetes.io",
        "kubernetes.io/namespace",
        "kubernetes.io/serviceaccount",
        "kubernetes.io/serviceaccount/name",
        "kubernetes.io/serviceaccount/uid",
        "kubernetes.io/pod",
        "kubernetes.io/pod/name",
        "kubernetes.io/pod/uid",
        "kubernetes.io/node",
        "kubernetes.io/node/name",
        "kubernetes.io/node/uid",
    ];
    for path in paths {
        for value in VALUES {
            let token = key.token_of(&header.to_string(), &mutated(&claims(), path, value));
            if allowed(path, value) {
                let answer = fixture.authenticate(&token).await;
                assert!(answer.is_ok(), "{path} {value:?}: {answer:?}");
            } else {
                let reason = fixture.rejects(&token).await;
                let value = value.unwrap_or_default().trim_matches('"');
                // Shown are issuers, audiences and times, which one looks for in the log, and nothing else.
                let time = ["exp", "nbf", "iat"].contains(&path) && !reason.contains("must be");
                let shown = value.len() > 5 && reason.contains(value);
                let named = ["iss", "aud"].contains(&path);
                assert!(!shown || named || time, "{path} {value}: {reason}");
            }
        }
    }
}

#[tokio::test]
async fn every_parameter_of_the_header_has_its_type() {
    let key = JwtKey::p256("one");
    let fixture = Fixture::new(&[&key]);
    let header = json!({ "alg": "ES256", "kid": "one", "typ": "JWT" });
    for path in ["alg", "kid", "typ", "crit"] {
        for value in VALUES {
            let token = key.token_of(&mutated(&header, path, value), &claims().to_string());
            if allowed(path, value) {
                assert!(
                    fixture.authenticate(&token).await.is_ok(),
                    "{path} {value:?}"
                );
            } else {
                fixture.rejects(&token).await;
            }
        }
    }
}

#[tokio::test]
async fn escapes_are_read_as_json_reads_them() {
    let key = JwtKey::p256("one");
    let fixture = Fixture::new(&[&key]);
    let escaped: String = ISSUER
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    let payload = claims().to_string().replace(ISSUER, &escaped);
    assert_ne!(payload, claims().to_string());
    let token = key.token_of(r#"{"alg":"ES256","kid":"\u006fne"}"#, &payload);
    assert!(fixture.authenticate(&token).await.is_ok());
}
