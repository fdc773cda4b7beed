//! Tokens that are verified with the cluster's keys, and those that go to the API server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rootbridge::authn::{AuthnError, Caller, Method};
use serde_json::{Value, json};

use rootbridge_test_support::jwk::JwtKey;
use rootbridge_test_support::{PATIENCE, eventually};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{ACCOUNT, Fixture, ISSUER, POD, accepted, account, claims, key_set, pod};

/// UIDs of other pods.
const TILL: &str = "44444444-4444-4444-8444-444444444444";
const NEW: &str = "55555555-5555-4555-8555-555555555555";

const OFFLINE: &str = "authenticate = 'offline'\nwatch_silence = '10s'\n\
                       issuers = ['https://before.example']";

/// A cluster with `shop/cart-0` on node `n1`, up to date.
pub(crate) async fn ready(fake: &FakeApiServer, key: &JwtKey) -> Fixture {
    *fake.jwks.lock().unwrap() = key_set(key);
    fake.pods.add(pod("shop", "cart-0", POD, "cart", "n1"));
    fake.accounts.add(account("shop", "cart", ACCOUNT));
    let fixture = Fixture::new(&[("east", fake, OFFLINE)]).await;
    let cluster = fixture.cluster("east");
    let ready = || {
        let listed = cluster.index().unwrap().time_since_contact().is_some();
        listed && cluster.keys().unwrap().keys > 0
    };
    eventually(PATIENCE, "keys and index", async || ready()).await;
    fixture
}

/// The verdict, and whether the API server was asked.
pub(crate) async fn ask(
    fixture: &Fixture,
    fake: &FakeApiServer,
    token: &str,
) -> (Result<Caller, AuthnError>, bool) {
    let before = fake.reviewed();
    let verdict = fixture.ask("east", token).await;
    (verdict, fake.reviewed() > before)
}

#[tokio::test]
async fn a_bound_token_needs_no_request() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let (caller, asked) = ask(&fixture, &fake, &key.token(&claims())).await;
    let caller = caller.unwrap();
    assert!(!asked);
    assert!(matches!(&caller.method, Method::ClusterKeys { issuer, .. } if issuer == ISSUER));
    assert_eq!(caller.node.as_deref(), Some("n1"));
    assert_eq!(caller.pod.unwrap().uid, POD);
    assert_eq!(caller.cluster.as_deref(), Some("east"));
}

#[tokio::test]
async fn a_definite_rejection_needs_no_request_either() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    // Were the API server asked, it would say yes.
    fake.set_review(accepted("shop:cart"));
    let with = |pointer: &str, value: Value| {
        let mut claims = claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        key.token(&claims)
    };
    let now = claims()["iat"].as_i64().unwrap();
    for token in [
        with("/exp", json!(now - 1)),
        with("/aud", json!(["other"])),
        with("/exp", json!("1")),
        with("/exp", json!(1e300)),
        with("/kubernetes.io/pod", json!("cart-0")),
        with("/kubernetes.io", json!([])),
        with("/sub", json!(1)),
        JwtKey::p256("one").token(&claims()),
        "a.b".to_owned(),
    ] {
        let (verdict, asked) = ask(&fixture, &fake, &token).await;
        let error = verdict.unwrap_err();
        assert!(matches!(error, AuthnError::Rejected { .. }), "{error}");
        assert!(!asked, "{error}");
        assert!(!error.to_string().contains(&token));
    }
}

#[tokio::test]
async fn what_the_index_does_not_know_is_for_the_api_server() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    fake.pods.add(pod("shop", "till-0", TILL, "till", "n1"));
    fake.pods.add(pod("shop", "new-0", NEW, "cart", ""));
    let fixture = ready(&fake, &key).await;
    let cluster = fixture.cluster("east");
    let is_known = |name| cluster.index().unwrap().pod("shop", name).is_some();
    eventually(PATIENCE, "the pods", async || {
        is_known("till-0") && is_known("new-0")
    })
    .await;
    let other = "33333333-3333-4333-8333-333333333333";
    let now = claims()["iat"].as_i64().unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims();
        for (pointer, value) in changes {
            *claims.pointer_mut(pointer).unwrap() = value.clone();
        }
        claims
    };
    let unbound = |field: &str| {
        let mut claims = claims();
        claims["kubernetes.io"]
            .as_object_mut()
            .unwrap()
            .remove(field);
        claims
    };
    let mut plain = claims();
    plain.as_object_mut().unwrap().remove("kubernetes.io");
    let tokens = [
        key.token(&with(&[("/kubernetes.io/pod/uid", json!(other))])),
        key.token(&with(&[("/kubernetes.io/pod/name", json!("cart-1"))])),
        key.token(&with(&[(
            "/kubernetes.io/serviceaccount/uid",
            json!(other),
        )])),
        key.token(&with(&[("/kubernetes.io/namespace", json!("bank"))])),
        key.token(&with(&[("/kubernetes.io/node/name", json!("n2"))])),
        // A pod of another account, and one on no node.
        key.token(&with(&[
            ("/kubernetes.io/pod/name", json!("till-0")),
            ("/kubernetes.io/pod/uid", json!(TILL)),
        ])),
        key.token(&with(&[
            ("/kubernetes.io/pod/name", json!("new-0")),
            ("/kubernetes.io/pod/uid", json!(NEW)),
        ])),
        // The name and the UID of the pod are those of two pods.
        key.token(&with(&[("/kubernetes.io/pod/uid", json!(TILL))])),
        // Not yet valid, by more than clocks differ.
        key.token(&with(&[("/nbf", json!(now + 120))])),
        key.token(&with(&[("/iat", json!(now + 120))])),
        key.token(&with(&[("/iss", json!("https://before.example"))])),
        key.token(&with(&[(
            "/sub",
            json!("system:serviceaccount:shop:other"),
        )])),
        key.token(&unbound("pod")),
        key.token(&unbound("serviceaccount")),
        key.token(&plain),
        JwtKey::p256("two").token(&claims()),
    ];
    for token in &tokens {
        fake.set_review(accepted("shop:cart"));
        let (verdict, asked) = ask(&fixture, &fake, token).await;
        assert!(asked);
        assert_eq!(verdict.unwrap().method, Method::TokenReview);
        fake.set_review(Answer::Status(500));
        let (verdict, _) = ask(&fixture, &fake, token).await;
        assert!(matches!(verdict, Err(AuthnError::Unavailable(_))));
        let no = json!({ "kind": "TokenReview", "status": { "authenticated": false } });
        fake.set_review(Answer::Json(no));
        let (verdict, asked) = ask(&fixture, &fake, token).await;
        assert!(asked && matches!(verdict, Err(AuthnError::Rejected { .. })));
    }
}

/// An account, too, has its last moments, and a namesake that is made later is another.
#[tokio::test]
async fn a_deleted_account_is_not_accepted_here() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let cluster = fixture.cluster("east");
    let token = key.token(&claims());
    let modified = |uid: &str, end: &str| {
        let mut account = account("shop", "cart", uid);
        account["metadata"]["deletionTimestamp"] = end.into();
        json!({ "type": "MODIFIED", "object": account })
    };
    let end = || {
        let account = cluster.index().unwrap().account("shop", "cart");
        account.and_then(|account| account.deletion())
    };
    fake.accounts
        .send(&modified(ACCOUNT, "2100-01-01T00:00:00Z"));
    eventually(PATIENCE, "it is ending", async || end().is_some()).await;
    let (verdict, asked) = ask(&fixture, &fake, &token).await;
    assert!(verdict.is_ok() && !asked);
    fake.accounts
        .send(&modified(ACCOUNT, "2020-01-01T00:00:00Z"));
    let ended = || end().is_some_and(|end| end.secs() < 2_000_000_000);
    eventually(PATIENCE, "it has ended", async || ended()).await;
    assert!(ask(&fixture, &fake, &token).await.1);

    let gone = account("shop", "cart", ACCOUNT);
    fake.accounts
        .send(&json!({ "type": "DELETED", "object": gone }));
    let known = || cluster.index().unwrap().account("shop", "cart");
    eventually(PATIENCE, "it is gone", async || known().is_none()).await;
    assert!(ask(&fixture, &fake, &token).await.1);
    fake.accounts.add(account("shop", "cart", TILL));
    eventually(PATIENCE, "a namesake", async || known().is_some()).await;
    assert!(ask(&fixture, &fake, &token).await.1);
}

#[tokio::test]
async fn what_is_deleted_is_not_accepted_here() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let token = key.token(&claims());
    let with_end = |end: &str| {
        let mut pod = pod("shop", "cart-0", POD, "cart", "n1");
        pod["metadata"]["deletionTimestamp"] = end.into();
        json!({ "type": "MODIFIED", "object": pod })
    };
    let index = |is: &'static str| {
        let cluster = fixture.cluster("east");
        move || {
            let pod = cluster.index().unwrap().pod("shop", "cart-0");
            let end = pod.as_ref().and_then(|pod| pod.deletion());
            match is {
                "gone" => pod.is_none(),
                "ended" => end.is_some_and(|end| end.secs() < 2_000_000_000),
                _ => end.is_some_and(|end| end.secs() > 4_000_000_000),
            }
        }
    };
    // Its last moments are its own.
    fake.pods.send(&with_end("2100-01-01T00:00:00Z"));
    eventually(PATIENCE, "it is ending", async || index("ending")()).await;
    let (verdict, asked) = ask(&fixture, &fake, &token).await;
    assert!(verdict.is_ok() && !asked);
    fake.pods.send(&with_end("2020-01-01T00:00:00Z"));
    eventually(PATIENCE, "it has ended", async || index("ended")()).await;
    assert!(ask(&fixture, &fake, &token).await.1);
    let object = pod("shop", "cart-0", POD, "cart", "n1");
    fake.pods
        .send(&json!({ "type": "DELETED", "object": object }));
    eventually(PATIENCE, "it is gone", async || index("gone")()).await;
    assert!(ask(&fixture, &fake, &token).await.1);
}

#[tokio::test]
async fn a_broken_watch_resumes_and_an_expired_one_restarts() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let cluster = fixture.cluster("east");
    let knows = |name: &'static str| {
        let cluster = &cluster;
        move || cluster.index().unwrap().pod("shop", name).is_some()
    };
    let watches = || fake.pods.watches.load(Ordering::SeqCst);
    eventually(PATIENCE, "a watch", async || watches() > 0).await;
    let (lists, before) = (fake.pods.lists.load(Ordering::SeqCst), watches());
    fake.pods.cut();
    eventually(PATIENCE, "another watch", async || watches() > before).await;
    fake.pods.add(pod("shop", "cart-1", "x", "cart", "n1"));
    eventually(PATIENCE, "an event after the break", async || {
        knows("cart-1")()
    })
    .await;
    assert_eq!(fake.pods.lists.load(Ordering::SeqCst), lists, "no new list");

    let forgotten =
        json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired" });
    fake.pods.items.lock().unwrap().clear();
    fake.pods
        .send(&json!({ "type": "ERROR", "object": forgotten }));
    eventually(PATIENCE, "a new list", async || {
        fake.pods.lists.load(Ordering::SeqCst) > lists
    })
    .await;
    eventually(PATIENCE, "what is not listed is gone", async || {
        !knows("cart-0")()
    })
    .await;

    // What cannot be read does not stop it for ever.
    fake.pods
        .send(&json!({ "type": "ADDED", "object": { "metadata": 1 } }));
    let before = watches();
    eventually(PATIENCE, "another watch", async || watches() > before).await;
    fake.pods.add(pod("shop", "cart-2", "x", "cart", "n1"));
    eventually(PATIENCE, "an event after a malformed one", async || {
        knows("cart-2")()
    })
    .await;
}

/// What a watch adds counts as what a list holds: past what may be stored, nothing is.
#[tokio::test]
async fn a_watch_cannot_add_more_than_may_be_stored() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    let cluster = fixture.cluster("east");
    let known = |name: &str| cluster.index().unwrap().account("shop", name).is_some();
    let add = |name: &str| {
        let object = account("shop", name, ACCOUNT);
        fake.accounts
            .send(&json!({ "type": "ADDED", "object": object }));
    };
    // A third of 8 MiB, and then the rest and more.
    let name = |n: usize| format!("{n}{}", "x".repeat(200_000));
    (0..16).for_each(|n| add(&name(n)));
    eventually(PATIENCE, "what may be stored", async || known(&name(15))).await;
    assert!(known("cart"));
    (16..48).for_each(|n| add(&name(n)));
    eventually(PATIENCE, "none is left", async || !known("cart")).await;
    assert!(!known(&name(0)) && !known(&name(47)));
    let contact = || cluster.index().unwrap().time_since_contact();
    eventually(PATIENCE, "no contact", async || contact().is_none()).await;
}

/// Missing keys delay no caller for longer than the API server itself may.
#[tokio::test]
async fn missing_keys_delay_no_call_past_the_limit() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    fake.set_review(accepted("shop:cart"));
    *fake.jwks.lock().unwrap() = Answer::Never;
    let unknown = JwtKey::p256("two").token(&claims());
    for _ in 0..3 {
        let started = std::time::Instant::now();
        let (verdict, asked) = ask(&fixture, &fake, &unknown).await;
        assert!(asked);
        assert_eq!(verdict.unwrap().method, Method::TokenReview);
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    }
    // What is known is known.
    let (verdict, asked) = ask(&fixture, &fake, &key.token(&claims())).await;
    assert!(verdict.is_ok() && !asked);
}

/// RBAC may allow a list and not the watch after it: that the list succeeds is no reason to retry
/// without a pause.
#[tokio::test]
async fn a_refused_watch_is_retried_later_and_later() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    fake.pods.refuses_watches.store(true, Ordering::SeqCst);
    let fixture = ready(&fake, &key).await;
    let requests = || {
        let lists = fake.pods.lists.load(Ordering::SeqCst);
        (lists, fake.pods.watches.load(Ordering::SeqCst))
    };
    let before = requests();
    // What is tried is a time: how many requests there are in it.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = requests();
    assert!(
        after.0 - before.0 <= 3 && after.1 - before.1 <= 8,
        "{before:?} {after:?}"
    );
    fake.pods.refuses_watches.store(false, Ordering::SeqCst);
    let cluster = fixture.cluster("east");
    let recent = || cluster.index().unwrap().time_since_contact().unwrap() < Duration::from_secs(8);
    eventually(PATIENCE, "the watch is allowed again", async || recent()).await;
}

/// Nothing is heard: past the bound the index says nothing any more, until it is heard again.
#[tokio::test]
async fn a_silent_watch_is_not_trusted() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    fake.set_review(accepted("shop:cart"));
    let token = key.token(&claims());
    assert!(!ask(&fixture, &fake, &token).await.1);
    let cluster = fixture.cluster("east");
    let silent =
        || cluster.index().unwrap().time_since_contact().unwrap() > Duration::from_secs(10);
    // One of the two is enough: the other tells of accounts.
    fake.accounts.deaf.store(true, Ordering::SeqCst);
    eventually(PATIENCE, "silence", async || silent()).await;
    assert!(ask(&fixture, &fake, &token).await.1);
    fake.accounts.deaf.store(false, Ordering::SeqCst);
    eventually(PATIENCE, "another watch", async || !silent()).await;
    assert!(!ask(&fixture, &fake, &token).await.1);

    // Where nothing happens, a watch that begins says so; and so does a bookmark within one.
    let seen = fake.pods.watches.load(Ordering::SeqCst);
    eventually(PATIENCE, "a watch after the other", async || {
        assert!(!silent());
        fake.pods.watches.load(Ordering::SeqCst) > seen + 1
    })
    .await;
    // A watch that begins is waited on for a second; less than that is a bookmark's doing.
    let bookmark = json!({ "type": "BOOKMARK", "object": {
        "apiVersion": "v1", "kind": "Pod", "metadata": { "resourceVersion": "9" } } });
    let heard = || {
        for each in [&fake.pods, &fake.accounts] {
            each.send(&bookmark);
        }
        cluster.index().unwrap().time_since_contact().unwrap() < Duration::from_millis(900)
    };
    eventually(PATIENCE, "a bookmark", async || heard()).await;
}
