//! Keys over https: rotation, and a server that is not to be trusted with more than keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbridge::authn::AuthnError;

use rootbridge_test_support::eventually;

use crate::support::server::{Answer, KeyServer};
use crate::support::{Fixture, ISSUER, JwtKey, claims, jwks};

/// A verifier of the server's keys; `refresh` also sets the rate of refetching, at a tenth.
pub(crate) fn fixture(server: &KeyServer, refresh: &str) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &server.ca_pem).unwrap();
    Fixture::of(
        dir,
        &format!(
            "[jwt.cluster]\nissuer = \"{ISSUER}\"\ntrust_domain = \"cluster.local\"\nsubject = \"kubernetes\"\n\
             audiences = {{ istio = \"istio-ca\" }}\njwks_url = \"{}\"\njwks_ca_file = {ca:?}\n\
             refresh = \"{refresh}\"\nkeep = \"1h\"\n",
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
async fn an_unknown_key_is_fetched_once_within_the_rate() {
    let (old, new) = (JwtKey::p256("old"), JwtKey::p256("new"));
    let server = KeyServer::start(Answer::Slow(Duration::from_millis(200), jwks(&[&old]))).await;
    let fixture = Arc::new(fixture(&server, "50s"));
    // The first callers come before the first keys, and wait for them.
    assert_eq!(accepted(&fixture, &old.token(&claims()), 100).await, 100);
    assert_eq!(server.hits(), 1);
    let fetched = Instant::now();

    // Rotated: within five seconds of the last fetch there is no other, however many ask.
    server.answer(Answer::Slow(
        Duration::from_millis(200),
        jwks(&[&old, &new]),
    ));
    let token = new.token(&claims());
    assert_eq!(accepted(&fixture, &token, 100).await, 0);
    assert_eq!(server.hits(), 1);
    assert!(
        fetched.elapsed() < Duration::from_secs(5),
        "the machine is too slow for this test"
    );

    // Then there is one, and everyone who asks meanwhile is answered by it.
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(accepted(&fixture, &token, 100).await, 100);
    assert_eq!(server.hits(), 2);

    // A thousand made-up ids fetch nothing more.
    for index in 0..1000 {
        fixture
            .rejects(&JwtKey::token_of(
                &new,
                &format!(r#"{{"alg":"ES256","kid":"{index}"}}"#),
                &claims().to_string(),
            ))
            .await;
    }
    assert_eq!(server.hits(), 2);
    assert!(fixture.authenticate(&old.token(&claims())).await.is_ok());
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
