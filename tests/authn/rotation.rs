//! Keys over https: rotation, and a server that is not to be trusted with more than keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rootbridge::authn::AuthnError;

use rootbridge_test_support::{eventually, stays};

use crate::support::server::{Answer, KeyServer};
use crate::support::{Fixture, ISSUER, JwtKey, claims, jwks};

/// A verifier of the server's keys; `refresh` also sets the rate of refetching, at a tenth.
pub(crate) fn fixture(server: &KeyServer, refresh: &str) -> Fixture {
    fixture_with(server, refresh, None)
}

/// The same; the server is presented this token.
fn fixture_with(server: &KeyServer, refresh: &str, token: Option<&str>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &server.ca_pem).unwrap();
    let presented = token.map(|token| {
        let file = dir.path().join("token");
        std::fs::write(&file, token).unwrap();
        format!("jwks_token_file = {file:?}\n")
    });
    let presented = presented.unwrap_or_default();
    Fixture::of(
        dir,
        &format!(
            "[jwt.cluster]\nissuer = \"{ISSUER}\"\ntrust_domain = \"cluster.local\"\nsubject = \"kubernetes\"\n\
             audiences = {{ istio = \"istio-ca\" }}\njwks_url = \"{}\"\njwks_ca_file = {ca:?}\n\
             refresh = \"{refresh}\"\nkeep = \"1h\"\n{presented}",
            server.url()
        ),
    )
}

/// How many of `count` calls at once are accepted.
async fn accepted(fixture: &Arc<Fixture>, token: &str, count: usize) -> usize {
    let calls = (0..count).map(|_| {
        let (fixture, token) = (Arc::clone(fixture), token.to_owned());
        tokio::spawn(async move { fixture.authenticate(&token).await.is_ok() })
    });
    let mut accepted = 0;
    for call in calls.collect::<Vec<_>>() {
        accepted += usize::from(call.await.unwrap());
    }
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_once_for_everybody_who_waits() {
    let (old, new) = (JwtKey::p256("old"), JwtKey::p256("new"));
    let slow = |keys: &[&JwtKey]| Answer::Slow(Duration::from_millis(200), jwks(keys));
    let server = KeyServer::start(slow(&[&old])).await;
    let fixture = Arc::new(fixture(&server, "1h"));
    // The first callers come before the first keys, and wait for them.
    assert_eq!(accepted(&fixture, &old.token(&claims()), 100).await, 100);
    assert_eq!(server.hits(), 1);

    // Rotated just after that fetch: no caller is refused for an unknown key.
    server.answer(slow(&[&old, &new]));
    assert_eq!(accepted(&fixture, &new.token(&claims()), 100).await, 100);
    assert_eq!(server.hits(), 2);
    assert!(fixture.authenticate(&old.token(&claims())).await.is_ok());
    assert_eq!(server.hits(), 2, "known keys are not fetched again");
}

/// Strangers can make up key ids without end. They cost the issuer one fetch a second at the most,
/// and a new key is still accepted at the first call.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_key_ids_delay_no_new_key() {
    let old = JwtKey::p256("old");
    let server = KeyServer::start(Answer::Set(jwks(&[&old]))).await;
    let fixture = Arc::new(fixture(&server, "1h"));
    assert!(fixture.authenticate(&old.token(&claims())).await.is_ok());
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let strangers: Vec<_> = (0..20)
        .map(|stranger| {
            let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
            tokio::spawn(async move {
                let key = JwtKey::p256("stranger");
                let mut refused = 0_usize;
                while !stop.load(Ordering::Relaxed) {
                    let header = format!(r#"{{"alg":"ES256","kid":"{stranger}-{refused}"}}"#);
                    let token = JwtKey::token_of(&key, &header, &claims().to_string());
                    fixture.rejects(&token).await;
                    refused += 1;
                }
                refused
            })
        })
        .collect();
    for rotation in 0..3 {
        let new = JwtKey::p256(&format!("new-{rotation}"));
        server.answer(Answer::Set(jwks(&[&old, &new])));
        let answer = fixture.authenticate(&new.token(&claims())).await;
        assert!(answer.is_ok(), "rotation {rotation}: {answer:?}");
    }
    let (hits, seconds) = (server.hits(), started.elapsed().as_secs() as usize);
    assert!(hits <= seconds + 2, "{hits} fetches in {seconds} s");
    stop.store(true, Ordering::Relaxed);
    for stranger in strangers {
        assert!(stranger.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_ends_no_fetch() {
    let key = JwtKey::p256("k");
    let server = KeyServer::start(Answer::Slow(Duration::from_secs(2), jwks(&[&key]))).await;
    let fixture = Arc::new(fixture(&server, "1h"));
    let token = key.token(&claims());
    for _ in 0..5 {
        let call = fixture.authenticate(&token);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), call)
                .await
                .is_err()
        );
    }
    assert!(fixture.authenticate(&token).await.is_ok());
    assert_eq!(server.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_finds_new_keys_and_drops_old_ones_alone() {
    let (old, new) = (JwtKey::p256("old"), JwtKey::p256("new"));
    let server = KeyServer::start(Answer::Set(jwks(&[&old]))).await;
    let fixture = fixture(&server, "1s");
    assert!(fixture.authenticate(&old.token(&claims())).await.is_ok());
    server.answer(Answer::Set(jwks(&[&new])));
    // The old key is known, so no call asks for another set: time alone brings it.
    eventually(Duration::from_secs(20), "the old key is gone", async || {
        fixture.authenticate(&old.token(&claims())).await.is_err()
    })
    .await;
    assert!(fixture.authenticate(&new.token(&claims())).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_key_set_from_the_right_server_is_taken() {
    let key = JwtKey::p256("k");
    let elsewhere = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let good = jwks(&[&key]);
    for (answer, why) in [
        (
            Answer::Redirect(301, elsewhere.url()),
            "redirects are not followed",
        ),
        (
            Answer::Redirect(302, "/keys".to_owned()),
            "redirects are not followed",
        ),
        (
            Answer::Redirect(307, "http://localhost/keys".to_owned()),
            "redirects are not followed",
        ),
        (
            Answer::Huge { announced: true },
            "larger than 1048576 bytes",
        ),
        (
            Answer::Huge { announced: false },
            "larger than 1048576 bytes",
        ),
        (Answer::Status(204), "204"),
        (Answer::Status(403), "403"),
        (Answer::Status(500), "500"),
        (Answer::Cut, "cannot fetch"),
        (Answer::Set("<html>".to_owned()), "not a JSON Web Key Set"),
        (Answer::Set(r#"{"keys":[]}"#.to_owned()), "no key"),
        (
            Answer::Slow(Duration::from_secs(60), good.clone()),
            "timed out",
        ),
    ] {
        let server = KeyServer::start(answer).await;
        let fixture = fixture(&server, "1s");
        let start = Instant::now();
        let failure = fixture.authenticate(&key.token(&claims())).await;
        let Err(AuthnError::Unavailable(text)) = failure else {
            panic!("{why}: {failure:?}")
        };
        assert!(
            text.contains(why) && text.contains(&server.url()),
            "{why}: {text}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{why}");
        // It heals alone.
        server.answer(Answer::Set(good.clone()));
        eventually(
            Duration::from_secs(20),
            "the token is accepted",
            async || fixture.authenticate(&key.token(&claims())).await.is_ok(),
        )
        .await;
    }
    assert_eq!(elsewhere.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_certificate_must_be_under_the_configured_roots() {
    let key = JwtKey::p256("k");
    let server = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let stranger = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let fixture = fixture(&server, "1s");
    let ca = fixture.path("ca.pem");
    assert!(fixture.authenticate(&key.token(&claims())).await.is_ok());

    let pem = server.ca_pem.clone();
    for roots in [
        stranger.ca_pem.clone(),
        String::new(),
        "no PEM".to_owned(),
        pem.replace("MII", "AAA"),
    ] {
        std::fs::write(&ca, &roots).unwrap();
        let other = JwtKey::p256("other");
        eventually(
            Duration::from_secs(20),
            "a failure in the report",
            async || {
                let (_, report) = fixture.verifiers.reports().next().unwrap();
                report.failure.is_some()
            },
        )
        .await;
        // Known keys stand; of an unknown one there is no telling.
        assert!(fixture.authenticate(&key.token(&claims())).await.is_ok());
        let answer = fixture.authenticate(&other.token(&claims())).await;
        assert!(
            matches!(answer, Err(AuthnError::Unavailable(_))),
            "{answer:?}"
        );
        // The file is read again for each fetch, so it heals without a restart.
        std::fs::write(&ca, &pem).unwrap();
        eventually(
            Duration::from_secs(20),
            "no failure in the report",
            async || {
                let (_, report) = fixture.verifiers.reports().next().unwrap();
                report.failure.is_none()
            },
        )
        .await;
    }
}

/// A verifier that a reload has dropped fetches no more.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_owner_nothing_is_fetched() {
    let key = JwtKey::p256("k");
    let server = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let fixture = fixture(&server, "1s");
    let refreshed = async || server.hits() > 1;
    eventually(Duration::from_secs(20), "a refresh", refreshed).await;
    drop(fixture);
    // One may be under way.
    let before = server.hits();
    let most = async || server.hits() <= before + 1;
    stays(Duration::from_secs(4), "nobody asks", most).await;
}

/// As an API server wants it: kubelets replace a pod's token in its file.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_presented_as_its_file_has_it() {
    let key = JwtKey::p256("k");
    let token = key.token(&claims());
    let server = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let plain = fixture(&server, "1h");
    plain.authenticate(&token).await.unwrap();
    assert_eq!(server.authorization(), None);
    drop(plain);

    let fixture = fixture_with(&server, "1s", Some("first.pod-token\n"));
    fixture.authenticate(&token).await.unwrap();
    let presented = |wanted: &'static str| {
        let server = &server;
        eventually(Duration::from_secs(20), wanted, async move || {
            server.authorization().as_deref() == Some(wanted)
        })
    };
    presented("Bearer first.pod-token").await;
    std::fs::write(fixture.path("token"), "second.pod-token").unwrap();
    presented("Bearer second.pod-token").await;

    // What is no token is not sent, and what the server refuses is said with what helps.
    let failure = async || fixture.verifiers.reports().next().unwrap().1.failure;
    let fails = |wanted: &'static str| {
        eventually(Duration::from_secs(20), wanted, async move || {
            failure().await.is_some_and(|why| why.contains(wanted))
        })
    };
    std::fs::write(fixture.path("token"), "two words").unwrap();
    fails("holds no token").await;
    std::fs::write(fixture.path("token"), "third.pod-token").unwrap();
    server.answer(Answer::Status(403));
    fails("system:service-account-issuer-discovery").await;
    let said = failure().await.unwrap();
    assert!(!said.contains("third.pod-token"), "{said}");
}
