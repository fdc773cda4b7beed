//! The figures of docs/benchmarks.md: 2,000 namespaces, and what others notice of it.

use std::time::{Duration, Instant};

use super::{Cluster, ISTIO, stands, status};
use crate::objects::{namespace, review, service_account, token};

/// p50 and p99 of TokenReviews with distinct tokens, for so long.
async fn reviews(cluster: &Cluster, tokens: &[String], span: Duration) -> (Duration, Duration) {
    let mut took = Vec::new();
    let started = Instant::now();
    for token in tokens.iter().cycle() {
        if started.elapsed() > span {
            break;
        }
        let one = Instant::now();
        review(&cluster.client, token, &["istio-ca"]).await;
        took.push(one.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took.sort();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a load test of a minute and more: its figures are in docs/benchmarks.md"]
async fn two_thousand_namespaces() {
    let cluster = Cluster::of_chart().await;
    service_account(&cluster.client, "rootbridge", "app").await;
    let mut tokens = Vec::new();
    for _ in 0..500 {
        let app = ("rootbridge", "app");
        tokens.push(token(&cluster.client, app, &["istio-ca"], 3600, None).await);
    }
    for n in 0..2000 {
        namespace(&cluster.client, &format!("shop-{n}")).await;
    }
    let idle = reviews(&cluster, &tokens, Duration::from_secs(15)).await;
    let setup = cluster.setup(ISTIO);
    let started = Instant::now();
    let server = setup.serve().await;
    let busy = reviews(&cluster, &tokens, Duration::from_secs(15)).await;
    let at = status(&setup, &server);
    assert!(
        at["behind"].as_u64() > Some(0),
        "measured while it is filled: {at}"
    );
    let full = stands(&setup, &server, "everything in step", |status| {
        status["behind"] == 0
    })
    .await;
    eprintln!("2,000 namespaces in {:?}: {full}", started.elapsed());
    eprintln!("TokenReview p50 and p99: idle {idle:?}, meanwhile {busy:?}");
    let again = reviews(&cluster, &tokens, Duration::from_secs(15)).await;
    eprintln!("idle again {again:?}");
    server.stop().await;
}
