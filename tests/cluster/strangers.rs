//! Tokens of strangers: how many of them reach an API server.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use rootbridge::authn::AuthnError;
use rootbridge_test_support::jwk::{JwtKey, b64};
use rootbridge_test_support::{PATIENCE, eventually};
use serde_json::{Value, json};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{Fixture, ISSUER, accepted, claims, key_set, token};

const STRANGER: [u8; 4] = [10, 0, 0, 66];
const HONEST: [u8; 4] = [10, 0, 0, 1];

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| b64(value.to_string().as_bytes());
    format!("{}.{}.{signature}", part(header), part(claims))
}

fn with(change: impl Fn(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

fn no() -> Answer {
    Answer::Json(json!({ "kind": "TokenReview", "status": { "error": "no such token" } }))
}

/// Whether the API server's issuer and keys are known here.
async fn keys_are_known(fixture: &Fixture, cluster: &str, fake: &FakeApiServer, good: &JwtKey) {
    fake.set_review(accepted("shop:cart"));
    // Of a key that has the same name.
    let forged = JwtKey::p256(&good.kid).token(&claims());
    eventually(PATIENCE, "the keys are known", async || {
        let answer = fixture.ask_from(cluster, &forged, HONEST).await;
        matches!(answer, Err(AuthnError::Rejected { reason }) if reason.contains("keys that the cluster publishes"))
    })
    .await;
}

/// What can be refused here is refused here: the API server hears of none of it.
#[tokio::test]
async fn no_api_server_is_asked_what_is_known_here() {
    let fake = FakeApiServer::start(ISSUER).await;
    let (own, made_up) = (JwtKey::p256("own"), JwtKey::p256("own"));
    *fake.jwks.lock().unwrap() = key_set(&own);
    let fixture = Fixture::new(&[("east", &fake, "")]).await;
    keys_are_known(&fixture, "east", &fake, &own).await;
    let before = fake.reviewed();
    let refused = [
        (
            unsigned(&json!({ "alg": "none" }), &claims(), ""),
            "algorithm",
        ),
        (
            unsigned(&json!({ "alg": "none" }), &claims(), "c2ln"),
            "algorithm",
        ),
        (
            unsigned(&json!({ "alg": "HS256" }), &claims(), "c2ln"),
            "algorithm",
        ),
        (
            unsigned(&json!({ "alg": "es256" }), &claims(), "c2ln"),
            "algorithm",
        ),
        (
            unsigned(&json!({ "alg": "ES256" }), &claims(), ""),
            "not signed",
        ),
        ("aaaa.bbbb.cccc".to_owned(), "its header"),
        ("opaque".to_owned(), "not a compact JWS"),
        ("x".repeat(17_000), "more than 16384"),
        (
            own.token(&with(|c| c["exp"] = 1_000_000_000.into())),
            "expired",
        ),
        (
            own.token(&with(|c| c["aud"] = json!(["vault"]))),
            "audience istio-ca",
        ),
        (
            own.token(&with(|c| c["sub"] = "alice".into())),
            "no service account",
        ),
        (
            own.token(&with(|c| c["iss"] = "https://login.example".into())),
            "issuer",
        ),
        (own.token(&with(|c| c["iss"] = Value::Null)), "`iss`"),
        (made_up.token(&claims()), "signature is wrong"),
        (JwtKey::ed25519("own").token(&claims()), "algorithm"),
    ];
    for (token, why) in &refused {
        let answer = fixture.ask_from("east", token, STRANGER).await;
        let Err(AuthnError::Rejected { reason }) = &answer else {
            panic!("{why}: {answer:?}");
        };
        assert!(reason.contains(why), "{why}: {reason}");
        assert!(!reason.contains(token.as_str()));
    }
    assert_eq!(fake.reviewed(), before, "reviews of what was refused here");
    // What only the API server knows is still its decision.
    fixture
        .ask_from("east", &own.token(&claims()), HONEST)
        .await
        .unwrap();
    fixture.ask_from("east", &token(), HONEST).await.unwrap();
    let in_secret = with(|c| {
        c["iss"] = "kubernetes/serviceaccount".into();
        c.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "exp" && key != "aud");
    });
    let in_secret = JwtKey::rsa("another").token(&in_secret);
    fixture.ask_from("east", &in_secret, HONEST).await.unwrap();
    assert_eq!(fake.reviewed(), before + 3);
}

/// A token of one cluster without a `clusterid` does not reach another's API server, where it would be a
/// valid credential in the wrong hands: neither by its issuer nor, where all clusters have the same
/// issuer, by its key.
#[tokio::test]
async fn a_token_is_not_sent_to_another_cluster() {
    let west_issuer = "https://west.example";
    let east = FakeApiServer::start(ISSUER).await;
    let west = FakeApiServer::start(west_issuer).await;
    let twin = FakeApiServer::start(ISSUER).await;
    let silent = FakeApiServer::start("").await;
    let keys = ["east", "west", "twin"].map(JwtKey::p256);
    for (fake, key) in [&east, &west, &twin].into_iter().zip(&keys) {
        *fake.jwks.lock().unwrap() = key_set(key);
    }
    let more = "issuers = ['https://before.example']";
    let fixture = Fixture::new(&[
        ("east", &east, more),
        ("west", &west, ""),
        ("twin", &twin, ""),
        ("silent", &silent, ""),
    ])
    .await;
    let [of_east, of_west, of_twin] = &keys;
    keys_are_known(&fixture, "east", &east, of_east).await;
    keys_are_known(&fixture, "twin", &twin, of_twin).await;
    let from_west = |iss: &str| of_west.token(&with(|c| c["iss"] = iss.into()));
    eventually(PATIENCE, "west's keys are known", async || {
        west.set_review(no());
        let own = JwtKey::p256("west").token(&with(|c| c["iss"] = west_issuer.into()));
        let answer = fixture.ask_from("west", &own, HONEST).await;
        matches!(answer, Err(AuthnError::Rejected { reason }) if reason.contains("publishes"))
    })
    .await;
    silent.set_review(accepted("shop:cart"));
    let counted = || [&east, &west, &twin, &silent].map(FakeApiServer::reviewed);
    let before = counted();
    for (cluster, token, why) in [
        ("east", from_west(west_issuer), "is not the cluster's"),
        ("silent", from_west(west_issuer), "a key of cluster west"),
        ("east", of_twin.token(&claims()), "a key of cluster twin"),
        ("twin", of_east.token(&claims()), "a key of cluster east"),
    ] {
        let error = fixture.ask_from(cluster, &token, HONEST).await.unwrap_err();
        assert!(error.to_string().contains(why), "{cluster}: {error}");
    }
    assert_eq!(counted(), before);
    // Another issuer of the same API server, by the configuration.
    let before = of_east.token(&with(|c| c["iss"] = "https://before.example".into()));
    fixture.ask_from("east", &before, HONEST).await.unwrap();
    // An issuer that nobody knows, at a cluster whose own is not known.
    let nobodys = JwtKey::p256("nobody's");
    let unknown = nobodys.token(&with(|c| c["iss"] = "https://unknown.example".into()));
    fixture.ask_from("silent", &unknown, HONEST).await.unwrap();
    // The issuer of others, and a key that none of them has.
    let own = JwtKey::p256("silent").token(&claims());
    fixture.ask_from("silent", &own, HONEST).await.unwrap();
}

/// Forged tokens that only the API server can refuse: a few of each address reach it, and callers who
/// were good before, and those of other addresses, are answered all the while.
#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_do_not_take_the_api_servers_time() {
    let fake = FakeApiServer::start(ISSUER).await;
    let fixture = Fixture::new(&[("east", &fake, "review_concurrency = 4")]).await;
    fake.set_review(accepted("shop:cart"));
    let good = token();
    fixture.ask_from("east", &good, STRANGER).await.unwrap();
    fake.set_review(no());
    let before = fake.reviewed();
    let forged: Vec<_> = (0..1000).map(|_| token()).collect();
    let all = forged
        .iter()
        .map(|token| fixture.ask_from("east", token, [10, 9, 9, 9]));
    let answers = join_all(all).await;
    let busy = answers
        .iter()
        .filter(|answer| matches!(answer, Err(AuthnError::Busy { .. })));
    let reviews = fake.reviewed() - before;
    assert!(
        (60..80).contains(&reviews),
        "{reviews} reviews of 1000 forged tokens"
    );
    assert_eq!(busy.count(), 1000 - reviews);
    // The same one many times costs one.
    let same = token();
    for _ in 0..50 {
        let error = fixture
            .ask_from("east", &same, [10, 8, 8, 8])
            .await
            .unwrap_err();
        assert!(matches!(error, AuthnError::Rejected { .. }), "{error}");
    }
    assert!(fake.reviewed() - before - reviews <= 10);
    fake.set_review(accepted("shop:cart"));
    fixture.ask_from("east", &token(), HONEST).await.unwrap();
    fixture
        .ask_from("east", &good, [10, 9, 9, 9])
        .await
        .unwrap();
    assert_eq!(fake.unauthorized.load(Ordering::SeqCst), 0);
}
