//! `iss` and the listener choose exactly one verifier, and its no is final.

use std::path::Path;

use rootbridge::authn::{Api, AuthnError, Config, JwtVerifiers, RawCallers, RawConfig};
use serde_json::json;

use crate::support::{Fixture, ISSUER, JwtKey, claims, claims_with, jwks, parse};

fn table(name: &str, issuer: &str, domain: &str, audience: &str, file: &Path) -> String {
    format!(
        "[jwt.{name}]\nissuer = \"{issuer}\"\ntrust_domain = \"{domain}\"\nsubject = \"kubernetes\"\n\
         audiences = {{ istio = \"{audience}\" }}\njwks_file = {file:?}\n"
    )
}

#[tokio::test]
async fn what_one_verifier_rejects_no_other_accepts() {
    let (a, b) = (JwtKey::p256("k"), JwtKey::p256("k"));
    let dir = tempfile::tempdir().unwrap();
    let (file_a, file_b) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::write(&file_a, jwks(&[&a])).unwrap();
    std::fs::write(&file_b, jwks(&[&b])).unwrap();
    let toml = table("a", "https://a", "a.example", "istio-ca", &file_a)
        + &table("b", "https://b", "b.example", "istio-ca", &file_b);
    let fixture = Fixture::of(dir, &toml);
    for (issuer, key, domain) in [
        ("https://a", &a, Some("a.example")),
        ("https://b", &b, Some("b.example")),
        ("https://a", &b, None),
        ("https://b", &a, None),
        ("https://a/", &a, None),
        ("HTTPS://A", &a, None),
        ("", &a, None),
    ] {
        let token = key.token(&claims_with("iss", json!(issuer)));
        match domain {
            Some(domain) => {
                assert_eq!(
                    fixture
                        .authenticate(&token)
                        .await
                        .unwrap()
                        .trust_domain
                        .as_str(),
                    domain
                );
            }
            None => {
                let reason = fixture.rejects(&token).await;
                if key.kid == a.kid && !["https://a", "https://b"].contains(&issuer) {
                    let says = "accepted are https://a by verifier a, https://b by verifier b";
                    assert!(reason.contains(says), "{reason}");
                }
            }
        }
    }
    // A verifier that cannot tell is no reason to ask another.
    let alone = Fixture::of(
        tempfile::tempdir().unwrap(),
        &toml.replace(file_a.to_str().unwrap(), "/nonexistent"),
    );
    let answer = alone
        .authenticate(&b.token(&claims_with("iss", json!("https://a"))))
        .await;
    assert!(
        matches!(answer, Err(AuthnError::Unavailable(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn only_the_listeners_verifiers_authenticate() {
    let key = JwtKey::p256("k");
    let fixture = Fixture::new(&[&key]);
    let token = key.token(&claims());
    for allowed in [vec![], vec!["other".to_owned()], vec!["Cluster".to_owned()]] {
        let answer = fixture
            .verifiers
            .authenticate(&token, Api::Istio, &allowed)
            .await;
        assert!(
            matches!(answer, Err(AuthnError::Rejected { .. })),
            "{allowed:?}"
        );
    }
    // The configuration refuses this; it is no way in either.
    let twice = vec!["cluster".to_owned(), "cluster".to_owned()];
    let answer = fixture
        .verifiers
        .authenticate(&token, Api::Istio, &twice)
        .await;
    assert!(matches!(answer, Err(AuthnError::Rejected { .. })));
}

#[tokio::test]
async fn one_issuer_may_serve_two_listeners_differently() {
    let key = JwtKey::p256("k");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks");
    std::fs::write(&file, jwks(&[&key])).unwrap();
    let toml = table("old", ISSUER, "old.example", "istio-ca", &file)
        + &table("new", ISSUER, "new.example", "other", &file);
    let config = parse(&toml);
    let callers = |jwt: &[&str]| {
        let jwt = jwt.iter().map(|name| (*name).to_owned()).collect();
        config.callers(
            "listeners.mesh",
            RawCallers {
                jwt,
                ..RawCallers::default()
            },
        )
    };
    let both = callers(&["old", "new"]).unwrap_err().to_string();
    assert!(
        both.starts_with("listeners.mesh.jwt: ") && both.contains("`old` and `new`"),
        "{both}"
    );
    let fixture = Fixture::of(dir, &toml);
    let token = key.token(&claims());
    for (name, domain) in [("old", "old.example"), ("new", "new.example")] {
        let callers = callers(&[name]).unwrap();
        let caller = fixture
            .verifiers
            .authenticate(&token, Api::Istio, callers.jwt())
            .await
            .unwrap();
        assert_eq!(caller.trust_domain.as_str(), domain);
    }
    fixture.rejects(&token).await;
}

#[tokio::test]
async fn a_reload_forgets_no_keys() {
    let key = JwtKey::p256("k");
    let fixture = Fixture::new(&[&key]);
    let token = key.token(&claims());
    assert!(fixture.authenticate(&token).await.is_ok());
    std::fs::remove_file(fixture.path("jwks.json")).unwrap();
    let file = fixture.path("jwks.json");
    let again = |audience: &str| parse(&table("cluster", ISSUER, "cluster.local", audience, &file));
    let verifiers = fixture.verifiers.reconfigured(&again("istio-ca"));
    drop(fixture.verifiers);
    assert!(
        verifiers
            .authenticate(&token, Api::Istio, &fixture.allowed)
            .await
            .is_ok()
    );
    let stricter = verifiers.reconfigured(&again("another"));
    let answer = stricter
        .authenticate(&token, Api::Istio, &fixture.allowed)
        .await;
    assert!(matches!(answer, Err(AuthnError::Rejected { .. })));
    let fresh = JwtVerifiers::new(&again("istio-ca"), fixture.clock.clone());
    let answer = fresh
        .authenticate(&token, Api::Istio, &fixture.allowed)
        .await;
    assert!(matches!(answer, Err(AuthnError::Unavailable(_))));
    let gone = verifiers.reconfigured(&Config::try_from(RawConfig::default()).unwrap());
    let answer = gone
        .authenticate(&token, Api::Istio, &fixture.allowed)
        .await;
    assert!(matches!(answer, Err(AuthnError::Rejected { .. })));
}

/// Keys are an issuer's by the source that it was configured with: another source, other keys.
#[tokio::test]
async fn a_reload_to_another_source_forgets_the_old_keys() {
    let (key, next) = (JwtKey::p256("k"), JwtKey::p256("n"));
    let fixture = Fixture::new(&[&key]);
    let (before, after) = (key.token(&claims()), next.token(&claims()));
    assert!(fixture.authenticate(&before).await.is_ok());
    let (old, new) = (fixture.path("jwks.json"), fixture.path("next.json"));
    std::fs::write(&new, jwks(&[&next])).unwrap();
    let of = |file: &Path| parse(&table("cluster", ISSUER, "cluster.local", "istio-ca", file));
    let moved = fixture.verifiers.reconfigured(&of(&new));
    let ask = async |verifiers: &JwtVerifiers, token: &str| {
        verifiers
            .authenticate(token, Api::Istio, &fixture.allowed)
            .await
    };
    assert!(ask(&moved, &after).await.is_ok());
    let refused = ask(&moved, &before).await.unwrap_err();
    assert!(
        matches!(&refused, AuthnError::Rejected { reason } if reason.contains("no key")),
        "{refused}"
    );
    // And back again.
    let back = moved.reconfigured(&of(&old));
    assert!(ask(&back, &before).await.is_ok());
    let refused = ask(&back, &after).await.unwrap_err();
    assert!(matches!(refused, AuthnError::Rejected { .. }), "{refused}");
}

/// Whose decision a token is, before anything of it is verified.
#[tokio::test]
async fn the_claimed_issuer_is_that_of_a_verifier_of_the_listener() {
    let key = JwtKey::p256("k");
    let fixture = Fixture::new(&[&key]);
    let claims_it = |token: &str, allowed: &[&str]| {
        let allowed: Vec<_> = allowed.iter().map(|name| (*name).to_owned()).collect();
        fixture.verifiers.claims_issuer_of(token, &allowed)
    };
    let (ours, theirs) = (
        key.token(&claims()),
        key.token(&claims_with("iss", json!("https://other"))),
    );
    assert_eq!(claims_it(&ours, &["cluster"]), Ok(true));
    assert_eq!(claims_it(&ours, &["other", "cluster"]), Ok(true));
    assert_eq!(claims_it(&ours, &["other"]), Ok(false));
    assert_eq!(claims_it(&ours, &[]), Ok(false));
    assert_eq!(claims_it(&theirs, &["cluster"]), Ok(false));
    // Another's signature claims it as well: that verifier says no.
    let forged = JwtKey::p256("k").token(&claims());
    assert_eq!(claims_it(&forged, &["cluster"]), Ok(true));
    let malformed = claims_it("a.b", &["cluster"]).unwrap_err();
    assert!(
        matches!(malformed, AuthnError::Rejected { .. }),
        "{malformed}"
    );
}
