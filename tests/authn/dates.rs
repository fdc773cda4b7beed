//! Dates that are no whole numbers, and claims that decide nothing.

use serde_json::json;

use crate::support::{Fixture, JwtKey, NOW, claims, claims_with};

/// A NumericDate may have a fraction or an exponent (RFC 7519 §2). The whole second that counts is the
/// one against the caller.
#[tokio::test]
async fn a_fraction_of_a_second_is_rounded_against_the_caller() {
    let key = JwtKey::p256("one");
    let fixture = Fixture::new(&[&key]);
    let header = json!({ "alg": "ES256", "kid": "one" }).to_string();
    // `serde_json` would write them in its own way.
    let token = |name: &str, date: &str| {
        let claims = claims_with(name, json!("@")).to_string();
        key.token_of(&header, &claims.replace("\"@\"", date))
    };
    let leeway = 30;
    for (name, date) in [
        ("exp", format!("{}.0", NOW + 1)),
        ("exp", format!("{}.999", NOW - leeway + 1)),
        ("exp", "1.8e9".to_owned()),
        ("exp", "18E+8".to_owned()),
        ("exp", "253402300799".to_owned()),
        ("nbf", format!("{}.5", NOW + leeway - 1)),
        ("iat", format!("{}.0", NOW + leeway)),
        ("iat", "0".to_owned()),
        ("nbf", "0e0".to_owned()),
    ] {
        let accepted = fixture.authenticate(&token(name, &date)).await;
        assert!(accepted.is_ok(), "{name} {date}: {accepted:?}");
    }
    for (name, date, why) in [
        ("exp", format!("{}.999", NOW - leeway), "the token expired"),
        (
            "nbf",
            format!("{}.001", NOW + leeway),
            "is not valid before",
        ),
        ("iat", format!("{}.5", NOW + leeway), "issued in the future"),
        (
            "exp",
            "253402300800".to_owned(),
            "`exp` must be a number of seconds from 0 to",
        ),
        (
            "exp",
            "1e300".to_owned(),
            "`exp` must be a number of seconds from 0 to",
        ),
        (
            "exp",
            "1e999".to_owned(),
            "`exp` must be a number of seconds from 0 to",
        ),
        (
            "exp",
            "-1".to_owned(),
            "`exp` must be a number of seconds from 0 to",
        ),
        (
            "nbf",
            "-0.5".to_owned(),
            "`nbf` must be a number of seconds from 0 to",
        ),
        (
            "iat",
            "-1e9".to_owned(),
            "`iat` must be a number of seconds from 0 to",
        ),
        (
            "iat",
            format!("\"{NOW}\""),
            "`iat` must be a number of seconds from 0 to",
        ),
        ("exp", "NaN".to_owned(), "payload"),
        ("exp", "Infinity".to_owned(), "payload"),
        ("exp", "0x7fffffff".to_owned(), "payload"),
        ("exp", "01790000600".to_owned(), "payload"),
    ] {
        let reason = fixture.rejects(&token(name, &date)).await;
        assert!(reason.contains(why), "{name} {date}: {reason}");
    }
}

/// What Kubernetes adds to a token is only read where the verifier is for service accounts.
#[tokio::test]
async fn claims_that_decide_nothing_may_be_anything() {
    let key = JwtKey::p256("one");
    let fixture = Fixture::new(&[&key]);
    for (name, value) in [
        ("jti", json!(7)),
        ("azp", json!(null)),
        ("exp_", json!("x")),
    ] {
        let accepted = fixture
            .authenticate(&key.token(&claims_with(name, value)))
            .await;
        assert!(accepted.is_ok(), "{name}: {accepted:?}");
    }
    for node in [json!({ "name": "n1" }), json!({ "name": "n1", "uid": "" })] {
        let mut claims = claims();
        claims["kubernetes.io"]["node"] = node;
        let caller = fixture.authenticate(&key.token(&claims)).await.unwrap();
        assert_eq!(caller.node.as_deref(), Some("n1"));
    }
}
