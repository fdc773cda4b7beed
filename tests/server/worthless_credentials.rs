//! Credentials that open nothing.

use rootbridge_test_support::TestServer;
use rootbridge_test_support::jwk::b64;
use rootbridge_test_support::jwt::claims;

/// Further states of a credential. Each operation answers each as it answers nonsense.
pub(crate) const WORTHLESS: [&str; 5] = [
    "expired",
    "for nobody here",
    "of an unknown issuer",
    "unsigned",
    "badly signed",
];

/// In the order of [`WORTHLESS`].
pub(crate) fn worthless(setup: &TestServer) -> [String; 5] {
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = claims("foo", "bar", "istio-ca");
        claims["aud"] = serde_json::json!(["istio-ca", "rootbridge"]);
        claims[key] = value;
        claims
    };
    let good = setup.issuer.mint(&with("jti", "1".into()));
    let [header, payload, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let none = b64(br#"{"alg":"none"}"#);
    let (first, rest) = signature.split_at(1);
    let other = if first == "A" { "B" } else { "A" };
    [
        setup.issuer.mint(&with("exp", 1_000_000_000.into())),
        setup.issuer.mint(&with("aud", "vault".into())),
        setup
            .issuer
            .mint(&with("iss", "https://unknown.example".into())),
        format!("{none}.{payload}."),
        format!("{header}.{payload}.{other}{rest}"),
    ]
}
