//! The keys by which tokens are verified here: when they are fetched, and from what.

use rootbridge::authn::Method;
use rootbridge_test_support::jwk::JwtKey;
use rootbridge_test_support::{PATIENCE, eventually};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{ISSUER, accepted, claims, key_set};
use crate::offline::{ask, ready};

/// A new key is fetched when the first token that it signed comes.
#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_met() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let next = JwtKey::p256("two");
    *fake.jwks.lock().unwrap() = key_set(&next);
    // Not more often than the bound allows, so that the first may still go to the API server.
    fake.set_review(accepted("shop:cart"));
    eventually(PATIENCE, "it is fetched", async || {
        !ask(&fixture, &fake, &next.token(&claims())).await.1
    })
    .await;
    // And the one that is no longer published goes to the API server.
    assert!(ask(&fixture, &fake, &key.token(&claims())).await.1);
}

/// Keys in the body of an error are nobody's.
#[tokio::test]
async fn keys_come_from_a_success_alone() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let next = JwtKey::p256("two");
    let Answer::Json(set) = key_set(&next) else {
        panic!("no key set");
    };
    *fake.jwks.lock().unwrap() = Answer::StatusWith(503, set);
    fake.set_review(accepted("shop:cart"));
    for _ in 0..3 {
        let (verdict, asked) = ask(&fixture, &fake, &next.token(&claims())).await;
        assert!(asked);
        assert_eq!(verdict.unwrap().method, Method::TokenReview);
    }
    let report = fixture.cluster("east").keys().unwrap();
    let failure = report.failure.unwrap();
    assert!(failure.contains("the API server answers 503"), "{failure}");
}
