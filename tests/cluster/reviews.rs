//! TokenReview, and what callers get when it fails.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::authn::{AuthnError, Identity, Method};
use rootbridge::cluster::ListenerClusters;
use serde_json::{Value, json};

use rootbridge_test_support::{PATIENCE, eventually, stays};

use crate::fake_api_server::{Answer, FakeApiServer};
use crate::fixture::{Fixture, ISSUER, accepted, token};

/// Longer than a file is read twice.
const MISSING: Duration = Duration::from_millis(2500);

fn cannot_tell(error: &AuthnError) -> bool {
    matches!(error, AuthnError::Unavailable(_) | AuthnError::Timeout(_))
}

#[tokio::test]
async fn the_callers_identity_is_what_the_api_server_returns() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.set_review(accepted("shop:cart"));
    let fixture = Fixture::new(&[("east", &fake, "namespaces = ['shop']")]).await;
    let caller = fixture.ask("east", &token()).await.unwrap();
    assert_eq!(caller.method, Method::TokenReview);
    assert_eq!(caller.cluster.as_deref(), Some("east"));
    let Identity::Workload(id) = &caller.identity else {
        panic!("{caller:?}");
    };
    assert_eq!(id.as_str(), "spiffe://td/ns/shop/sa/cart");
    // A cluster vouches for its own namespaces only, and for names that Kubernetes can give.
    let long = format!("shop:{}", "a".repeat(254));
    for user in [
        "bank:cart",
        "shop:a/../b",
        "Shop:cart",
        ":cart",
        "shop:",
        "",
        "shop:cart:x",
        "shop:cart\n",
        "shop:cart\0",
        "shop:cart ",
        "shop:*",
        "*:cart",
        "shop:a,b",
        "shop:a+b",
        "shop:a%2fb",
        "shop:c\u{e4}rt",
        "shop/cart",
        "shop:cart/ns/bank",
        &long,
    ] {
        fake.set_review(accepted(user));
        let error = fixture.ask("east", &token()).await.unwrap_err();
        assert!(!cannot_tell(&error), "{user}: {error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
}

#[tokio::test]
async fn no_answer_is_no_verdict() {
    let fake = FakeApiServer::start(ISSUER).await;
    let fixture = Fixture::new(&[("east", &fake, "review_timeout = '500ms'")]).await;
    let odd = |value: Value| Answer::Json(value);
    let Answer::Json(yes) = accepted("shop:cart") else {
        panic!("no review");
    };
    let token = token();
    for answer in [
        Answer::Status(400),
        Answer::Status(401),
        Answer::Status(403),
        Answer::Status(404),
        Answer::Status(429),
        Answer::Status(500),
        Answer::Status(503),
        // Whatever the body says: it is not an answer to this review.
        Answer::StatusWith(403, yes.clone()),
        Answer::StatusWith(500, yes),
        Answer::Text(String::new()),
        Answer::Text("<html>".to_owned()),
        Answer::Text(format!("\"{token}\"")),
        Answer::Text("x".repeat(1024 * 1024)),
        odd(json!([])),
        odd(json!({ "kind": "TokenReview", "status": { "authenticated": "true" } })),
        odd(json!({ "kind": "TokenReview", "status": { "authenticated": true, "user": [] } })),
        Answer::Never,
    ] {
        fake.set_review(answer.clone());
        let started = Instant::now();
        let error = fixture.ask("east", &token).await.unwrap_err();
        assert!(cannot_tell(&error), "{answer:?}: {error}");
        assert!(!error.to_string().contains(&token), "{error}");
        assert!(started.elapsed() < PATIENCE, "{answer:?}");
    }
    fake.set_review(accepted("shop:cart"));
    fixture.ask("east", &token).await.unwrap();
}

#[tokio::test]
async fn an_audience_that_is_not_echoed_was_not_checked() {
    let fake = FakeApiServer::start(ISSUER).await;
    let fixture = Fixture::new(&[("east", &fake, "")]).await;
    for audiences in [
        json!([]),
        json!(["https://kubernetes"]),
        json!(["istio-ca-2"]),
    ] {
        let Answer::Json(mut review) = accepted("shop:cart") else {
            panic!("no review");
        };
        review["status"]["audiences"] = audiences;
        fake.set_review(Answer::Json(review));
        let error = fixture.ask("east", &token()).await.unwrap_err();
        assert!(matches!(error, AuthnError::Rejected { .. }), "{error}");
    }
}

/// Two slots and an API server that does not answer: the third caller does not wait longer than the
/// first, and another cluster's callers are not kept at all.
#[tokio::test]
async fn a_silent_cluster_keeps_its_own_callers_only_and_not_for_long() {
    let (silent, well) = (
        FakeApiServer::start(ISSUER).await,
        FakeApiServer::start(ISSUER).await,
    );
    silent.set_review(Answer::Never);
    well.set_review(accepted("shop:cart"));
    let bounds = "review_timeout = '3s'\nreview_concurrency = 2";
    let fixture = Fixture::new(&[("east", &silent, bounds), ("west", &well, bounds)]).await;
    let started = Instant::now();
    let stuck: Vec<_> = (0..10).map(|_| token()).collect();
    let stuck =
        futures_util::future::join_all(stuck.iter().map(|token| fixture.ask("east", token)));
    let others = async {
        for _ in 0..20 {
            fixture.ask("west", &token()).await.unwrap();
        }
        started.elapsed()
    };
    let (stuck, others) = tokio::join!(stuck, others);
    // In turns of two, the last would have been answered after 15 s.
    let all = started.elapsed();
    assert!(others < all, "{others:?} of {all:?}");
    assert!(all < Duration::from_secs(12), "{all:?}");
    assert!(
        stuck
            .iter()
            .all(|each| cannot_tell(each.as_ref().unwrap_err()))
    );
    assert_eq!(silent.reviewed(), 2, "no more than the bound");
    silent.set_review(accepted("shop:cart"));
    eventually(PATIENCE, "the cluster answers again", async || {
        fixture.ask("east", &token()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn the_call_names_its_cluster() {
    let fake = FakeApiServer::start(ISSUER).await;
    let fixture = Fixture::new(&[
        ("east", &fake, "aliases = ['Kubernetes', 'cluster-1']"),
        ("west", &fake, ""),
    ])
    .await;
    let both = ["east", "west"].map(str::to_owned).to_vec();
    let open = ListenerClusters::new(both, Some("west".to_owned()));
    let closed = ListenerClusters::new(vec!["east".to_owned()], None);
    let name = |listener, id: &str| {
        let cluster = fixture.clusters.select(listener, id)?;
        Ok::<_, AuthnError>(cluster.config().name().to_owned())
    };
    assert_eq!(name(&open, "east").unwrap(), "east");
    assert_eq!(name(&open, "Kubernetes").unwrap(), "east");
    assert_eq!(name(&open, "").unwrap(), "west");
    assert_eq!(name(&closed, "cluster-1").unwrap(), "east");
    for (listener, id) in [
        (&closed, ""),
        (&closed, "west"),
        (&open, "kubernetes"),
        (&open, " east"),
        (&open, "north\n"),
        (&open, "east\0"),
        (&open, "east\t"),
        (&open, "east,west"),
        (&open, "east west"),
        (&open, "east/"),
        (&open, "../east"),
        (&open, "*"),
        (&open, "%65ast"),
        (&open, "\u{435}ast"),
        (&open, "\u{202e}tsae"),
        (&open, "null"),
        (&open, &"east".repeat(100_000)),
    ] {
        let error = name(listener, id).unwrap_err();
        assert!(matches!(error, AuthnError::Rejected { .. }), "{error}");
        let text = error.to_string();
        let odd = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!text.contains(odd) && text.len() < 1000, "{text}");
    }
    let error = name(&open, "north").unwrap_err().to_string();
    assert!(
        error.contains("\"north\"") && error.contains("Kubernetes"),
        "{error}"
    );
}

/// A kubeconfig that cannot be used leaves its callers without a verdict, says why, and is taken again
/// once it is repaired.
#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_not_used() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.set_review(accepted("shop:cart"));
    let fixture = Fixture::new(&[("east", &fake, "")]).await;
    let cluster = fixture.cluster("east");
    let path = cluster.config().kubeconfig().unwrap().to_owned();
    let good = fake.kubeconfig();
    let read: Value = serde_json::from_str(&good).unwrap();
    let server = read["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "touch",
        "args": [path.with_extension("ran")],
        "interactiveMode": "Never",
    }});
    let mut plugin: Value = serde_json::from_str(&good).unwrap();
    plugin["users"][0]["user"] = exec;
    let mut unverified: Value = serde_json::from_str(&good).unwrap();
    unverified["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true);
    for (bad, says) in [
        // Plain HTTP proves no server.
        (good.replace("https://", "http://"), "not https"),
        (plugin.to_string(), "clusters.east.exec does not allow it"),
        (unverified.to_string(), "insecure-skip-tls-verify"),
        (
            good.replace("\"current-context\":\"t\"", "\"current-context\":\"u\""),
            "context",
        ),
        // A URL shows neither its password nor its query, which may be a token.
        (good.replace("https://", "https://me:hidden@"), "127.0.0.1"),
        (good.replace("https://", "http://me:hidden@"), "127.0.0.1"),
        (
            good.replace(server, &format!("{server}?token=hidden")),
            "127.0.0.1",
        ),
        ("no kubeconfig".to_owned(), ""),
        (String::new(), ""),
    ] {
        std::fs::write(&path, &bad).unwrap();
        let mut shown = String::new();
        eventually(PATIENCE, says, async || {
            let given_up = cluster.connection().client().await.err();
            shown = given_up.map(|down| down.to_string()).unwrap_or_default();
            !shown.is_empty() && shown.contains(says)
        })
        .await;
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(
            cannot_tell(&fixture.ask("east", &token()).await.unwrap_err()),
            "{bad}"
        );
        std::fs::write(&path, &good).unwrap();
        eventually(PATIENCE, "the repaired cluster", async || {
            cluster.connection().client().await.is_ok()
        })
        .await;
        fixture.ask("east", &token()).await.unwrap();
    }
    assert!(!path.with_extension("ran").exists(), "no program is run");

    // Away for the moment of its replacement, as a mounted secret may be.
    std::fs::remove_file(&path).unwrap();
    stays(MISSING, "it is accepted", async || {
        fixture.ask("east", &token()).await.is_ok()
    })
    .await;
}

/// A CA that is replaced in place, as short-lived client certificates are: the cluster recovers by
/// itself, and a file that cannot be used for a moment breaks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_kubeconfig_names_are_followed() {
    let fake = FakeApiServer::start(ISSUER).await;
    fake.set_review(accepted("shop:cart"));
    let fixture = Fixture::new(&[("east", &fake, "")]).await;
    let path = fixture
        .cluster("east")
        .config()
        .kubeconfig()
        .unwrap()
        .to_owned();
    let ca_of = |fake: &FakeApiServer| {
        let kubeconfig: Value = serde_json::from_str(&fake.kubeconfig()).unwrap();
        let data = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
        STANDARD.decode(data.unwrap()).unwrap()
    };
    let ca = path.with_extension("ca");
    let another = FakeApiServer::start(ISSUER).await;
    std::fs::write(&ca, ca_of(&another)).unwrap();
    let mut by_file: Value = serde_json::from_str(&fake.kubeconfig()).unwrap();
    let cluster = by_file["clusters"][0]["cluster"].as_object_mut().unwrap();
    cluster.remove("certificate-authority-data");
    cluster.insert("certificate-authority".to_owned(), json!(ca));
    std::fs::write(&path, by_file.to_string()).unwrap();
    eventually(PATIENCE, "the wrong CA is in use", async || {
        fixture.ask("east", &token()).await.is_err()
    })
    .await;

    std::fs::write(&ca, ca_of(&fake)).unwrap();
    eventually(PATIENCE, "the new CA is in use", async || {
        fixture.ask("east", &token()).await.is_ok()
    })
    .await;
    std::fs::write(&ca, "half a file").unwrap();
    stays(MISSING, "it is accepted", async || {
        fixture.ask("east", &token()).await.is_ok()
    })
    .await;
}
