//! Whatever comes, there is an answer and no panic.

use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rootbridge::authn::{
    Api, AuthnError, CertificateStatus, CertificateStatusSource, CertificateVerifier,
    ClientCertificate, LookupError, Operators, RawCallers, RawConfig, bearer,
};
use rootbridge::clock::{FixedClock, UnixTime};
use rootbridge::x509::{Certificate, TrustDomain};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Fixture, JwtKey, NOW, assert_secretless, b64, claims, parse};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static KEY: LazyLock<JwtKey> = LazyLock::new(|| JwtKey::p256("k"));
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let _inside = RUNTIME.enter();
    let fixture = Fixture::new(&[&KEY]);
    RUNTIME.block_on(async { fixture.authenticate(&KEY.token(&claims())).await.unwrap() });
    fixture
});

#[derive(Debug)]
struct Empty;

impl CertificateStatusSource for Empty {
    fn revision(&self) -> BoxFuture<'_, Result<u64, LookupError>> {
        async { Ok(1) }.boxed()
    }

    fn find<'a>(
        &'a self,
        _: &'a TrustDomain,
        _: &'a Certificate,
        _: u64,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>> {
        async { Ok(None) }.boxed()
    }
}

fn ask(token: &str) -> Result<(), AuthnError> {
    let answer = RUNTIME.block_on(FIXTURE.authenticate(token));
    if let Err(why) = &answer {
        assert_secretless(&why.to_string(), token);
    }
    answer.map(drop)
}

fn rejected(answer: &Result<(), AuthnError>) -> bool {
    matches!(answer, Err(AuthnError::Rejected { .. }))
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z.]{0,10}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_is_no_token(text in ".{0,200}") {
        prop_assert!(rejected(&ask(&text)));
    }

    #[test]
    fn any_bytes_in_the_parts_are_no_token(
        header in prop::collection::vec(any::<u8>(), 0..100),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        signature in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let token = format!("{}.{}.{}", b64(&header), b64(&payload), b64(&signature));
        prop_assert!(rejected(&ask(&token)));
    }

    #[test]
    fn any_json_rightly_signed_has_an_answer(header in json_value(), payload in json_value()) {
        let token = KEY.token_of(&header.to_string(), &payload.to_string());
        prop_assert!(rejected(&ask(&token)));
    }

    #[test]
    fn any_claim_replaced_has_an_answer(
        name in prop::sample::select(vec!["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "kubernetes.io"]),
        value in json_value(),
    ) {
        let mut claims = claims();
        claims[name] = value;
        prop_assert!(!matches!(ask(&KEY.token(&claims)), Err(AuthnError::Unavailable(_) | AuthnError::Missing)));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_a_rejection(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let mut bytes = KEY.token(&claims()).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let token = String::from_utf8(bytes).unwrap();
        prop_assert!(rejected(&ask(&token)), "{} {}", at, bit);
    }

    #[test]
    fn an_accepted_subject_is_the_one_that_was_sent(sub in "system:serviceaccount:[a-z*/+,:.\\x00-]{0,20}:[a-z*/+,.:-]{0,20}") {
        let token = KEY.token(&json!({ "iss": claims()["iss"], "sub": sub, "aud": "istio-ca", "exp": NOW + 10 }));
        if let Ok(caller) = RUNTIME.block_on(FIXTURE.authenticate(&token)) {
            let id = caller.identity.to_string();
            let (head, account) = id.rsplit_once("/sa/").unwrap();
            let namespace = head.strip_prefix("spiffe://cluster.local/ns/").unwrap();
            prop_assert_eq!(format!("system:serviceaccount:{namespace}:{account}"), sub);
        }
    }

    #[test]
    fn any_header_and_credential_have_an_answer(text in "(Bearer )?(rb_op_)?.{0,80}") {
        let operators = Operators::new(&parse(""));
        let _ = bearer(&text).map(|token| RUNTIME.block_on(operators.authenticate(token, &["x".to_owned()])).is_err());
        let _ = RUNTIME.block_on(FIXTURE.verifiers.authenticate(&text, Api::Admin, std::slice::from_ref(&text)));
    }

    #[test]
    fn any_configuration_has_an_answer(text in ".{0,100}", value in json_value()) {
        let _ = toml::from_str::<RawConfig>(&text).map(rootbridge::authn::Config::try_from);
        let _ = serde_json::from_value::<RawConfig>(json!({ "jwt": value })).map(rootbridge::authn::Config::try_from);
    }

    #[test]
    fn any_bytes_are_no_certificate(mut bytes in prop::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        if framed && bytes.len() > 4 {
            let length = u16::try_from(bytes.len() - 4).unwrap().to_be_bytes();
            bytes[..4].copy_from_slice(&[0x30, 0x82, length[0], length[1]]);
        }
        let raw: RawCallers = toml::from_str("client_certificates = { trust_domains = [\"a\"] }").unwrap();
        let callers = parse("").callers("x", raw).unwrap();
        let callers = CertificateVerifier::new(
            callers.client_certificates().unwrap().clone(),
            Arc::new(Empty),
            Arc::new(FixedClock::new(UnixTime::from_secs(NOW))),
        );
        let answer = RUNTIME.block_on(callers.authenticate(&ClientCertificate::new(bytes.as_slice())));
        prop_assert!(rejected(&answer.map(drop)));
    }
}
