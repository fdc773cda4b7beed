//! Key sets that cannot be read: the last valid copy is used for `keep`, then verification is
//! unavailable, and recovers by itself. And a file that is replaced while it is read.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rootbridge::authn::AuthnError;
use rootbridge::clock::UnixTime;

use crate::rotation;
use rootbridge_test_support::eventually;

use crate::support::server::{Answer, KeyServer};
use crate::support::{Fixture, JwtKey, NOW, claims, claims_with, jwks};

const HOUR: i64 = 3600;

#[tokio::test(flavor = "multi_thread")]
async fn the_last_valid_copy_is_used_for_its_time() {
    let key = JwtKey::p256("k");
    let mut server = KeyServer::start(Answer::Set(jwks(&[&key]))).await;
    let fixture = rotation::fixture(&server, "1s");
    let token = key.token(&claims_with("exp", (NOW + 100 * HOUR).into()));
    assert!(fixture.authenticate(&token).await.is_ok());
    server.down().await;
    // The task that refreshes may have seen the clock just before.
    eventually(
        Duration::from_secs(20),
        "a failure in the report",
        async || {
            fixture
                .verifiers
                .reports()
                .next()
                .unwrap()
                .1
                .failure
                .is_some()
        },
    )
    .await;

    fixture.clock.set(UnixTime::from_secs(NOW + HOUR));
    assert!(fixture.authenticate(&token).await.is_ok());
    fixture.clock.set(UnixTime::from_secs(NOW + HOUR + 1));
    let answer = fixture.authenticate(&token).await;
    let Err(AuthnError::Unavailable(why)) = answer else {
        panic!("{answer:?}")
    };
    assert!(why.contains("cannot fetch"), "{why}");
    // An expired token is a rejection all the same: no key is needed to tell.
    fixture
        .rejects(&key.token(&claims_with("exp", NOW.into())))
        .await;

    server.up().await;
    eventually(
        Duration::from_secs(20),
        "the token is accepted",
        async || fixture.authenticate(&token).await.is_ok(),
    )
    .await;
    let (_, report) = fixture.verifiers.reports().next().unwrap();
    assert_eq!(report.as_of, Some(UnixTime::from_secs(NOW + HOUR + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_does_not_push_out_a_good_copy() {
    let key = JwtKey::p256("k");
    let fixture = Fixture::with(&[&key], "keep = \"10m\"");
    let token = key.token(&claims_with("exp", (NOW + 100 * HOUR).into()));
    assert!(fixture.authenticate(&token).await.is_ok());
    let path = fixture.path("jwks.json");
    let failed = async || {
        fixture
            .verifiers
            .reports()
            .next()
            .unwrap()
            .1
            .failure
            .is_some()
    };
    for content in ["", "{", r#"{"keys":[]}"#] {
        std::fs::write(&path, content).unwrap();
        eventually(Duration::from_secs(20), "a failure in the report", failed).await;
        assert!(fixture.authenticate(&token).await.is_ok());
        std::fs::write(&path, jwks(&[&key])).unwrap();
        eventually(
            Duration::from_secs(20),
            "no failure in the report",
            async || !failed().await,
        )
        .await;
    }
    std::fs::write(&path, " ".repeat(1024 * 1024 + 1)).unwrap();
    eventually(Duration::from_secs(20), "a failure in the report", failed).await;
    std::fs::remove_file(&path).unwrap();
    fixture.clock.set(UnixTime::from_secs(NOW + 601));
    let answer = fixture.authenticate(&token).await;
    assert!(
        matches!(answer, Err(AuthnError::Unavailable(_))),
        "{answer:?}"
    );
    std::fs::write(&path, jwks(&[&key])).unwrap();
    eventually(
        Duration::from_secs(20),
        "the token is accepted",
        async || fixture.authenticate(&token).await.is_ok(),
    )
    .await;
}

/// As the kubelet does it: a new directory, a new link, renamed over the old.
fn swap(root: &Path, generation: usize, content: &str) {
    let fresh = format!("..{generation}");
    std::fs::create_dir(root.join(&fresh)).unwrap();
    std::fs::write(root.join(&fresh).join("jwks.json"), content).unwrap();
    symlink(&fresh, root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    if let Some(old) = generation.checked_sub(1) {
        std::fs::remove_dir_all(root.join(format!("..{old}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_of_the_link_and_none_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let constant = JwtKey::p256("constant");
    let keys: Vec<JwtKey> = (0..1000)
        .map(|index| JwtKey::p256(&format!("k{index}")))
        .collect();
    swap(dir.path(), 0, &jwks(&[&constant, &keys[0]]));
    symlink("..data/jwks.json", &path).unwrap();
    let fixture = Fixture::of(
        dir,
        &format!(
            "[jwt.cluster]\nissuer = \"{}\"\ntrust_domain = \"cluster.local\"\nsubject = \"kubernetes\"\n\
             audiences = {{ istio = \"istio-ca\" }}\njwks_file = {path:?}\n",
            crate::support::ISSUER
        ),
    );
    let steady = constant.token(&claims());
    assert!(fixture.authenticate(&steady).await.is_ok());
    for (index, key) in keys.iter().enumerate().skip(1) {
        swap(fixture.dir.path(), index, &jwks(&[&constant, key]));
        assert!(
            fixture.authenticate(&steady).await.is_ok(),
            "lost at {index}"
        );
        // The writer pauses now and then; the set of that time must be found.
        if index % 200 == 199 {
            let token = key.token(&claims());
            eventually(
                Duration::from_secs(20),
                "the token is accepted",
                async || fixture.authenticate(&token).await.is_ok(),
            )
            .await;
        }
    }
    // Without anyone asking for the new key: the old one goes when the file is read.
    let before = keys[998].token(&claims());
    eventually(Duration::from_secs(20), "the old key is gone", async || {
        fixture.authenticate(&before).await.is_err()
    })
    .await;
    assert!(
        fixture
            .authenticate(&keys[999].token(&claims()))
            .await
            .is_ok()
    );
    let (_, report) = fixture.verifiers.reports().next().unwrap();
    assert_eq!((report.keys, report.failure), (2, None));
}
