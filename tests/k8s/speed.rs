//! How fast callers are verified: `cargo test --test k8s -- --ignored --nocapture both_ways`.
//! TOKENS (1000) and TASKS (32) may be given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rootbridge::authn::Api;
use rootbridge::cluster::Cluster;

use super::callers::{Caller, ca, credential, offline};
use super::objects::{namespace, node, pod, service_account, token_for};
use super::server::shared;
use super::watch::reach;
use rootbridge_test_support::{PATIENCE, eventually};

pub(crate) fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of load; for figures"]
async fn both_ways() {
    let (count, tasks) = (setting("TOKENS", 1000), setting("TASKS", 32));
    let client = shared().client().await;
    let ns = "speed";
    namespace(&client, ns).await;
    service_account(&client, ns, "app").await;
    node(&client, ns).await;
    let app = pod(&client, ns, "app-0", "app", ns).await;
    let credential = credential(&client, ns).await;
    let mut rates = Vec::new();
    for way in ["token-review", "offline"] {
        // New ones for each way: the API server remembers what it has accepted.
        let made = (0..count).map(|_| token_for(&client, (ns, "app"), "istio-ca", &app));
        let tokens: Vec<_> = futures_util::stream::iter(made)
            .buffered(16)
            .collect()
            .await;
        let keys = format!("authenticate = '{way}'");
        let (cluster, _files, _guard) = reach(shared(), &credential, &keys);
        while !ready(&cluster) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let started = Instant::now();
        let mut times: Vec<Duration> = futures_util::stream::iter(tokens)
            .map(|token| {
                let cluster = Arc::clone(&cluster);
                tokio::spawn(async move {
                    let started = Instant::now();
                    cluster.authenticate(&token, Api::Istio).await.unwrap();
                    started.elapsed()
                })
            })
            .buffer_unordered(tasks)
            .map(Result::unwrap)
            .collect()
            .await;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        eprintln!(
            "{way}: {rate:.0} tokens/s, p50 {:?}, p99 {:?} ({count} tokens, {tasks} tasks)",
            at(50),
            at(99)
        );
        rates.push(rate);
    }
    assert!(rates[1] >= 5.0 * rates[0], "{rates:?}");
}

fn ready(cluster: &Cluster) -> bool {
    let index = cluster.index();
    let indexed = index.is_none_or(|index| index.time_since_contact().is_some());
    let keys = cluster.keys();
    cluster.is_up() && indexed && keys.is_none_or(|keys| keys.keys > 0)
}

/// From a call to its certificate, by the real server: each call brings a token that is new to it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of load; for figures"]
async fn end_to_end() {
    let (count, tasks) = (setting("TOKENS", 1000), setting("TASKS", 32));
    let client = shared().client().await;
    let ns = "speed-calls";
    namespace(&client, ns).await;
    service_account(&client, ns, "app").await;
    node(&client, ns).await;
    let app = pod(&client, ns, "app-0", "app", ns).await;
    let credential = credential(&client, ns).await;
    for way in ["token-review", "offline"] {
        let made = (0..=count).map(|_| token_for(&client, (ns, "app"), "istio-ca", &app));
        let mut tokens: Vec<_> = futures_util::stream::iter(made)
            .buffered(16)
            .collect()
            .await;
        let keys = format!("authenticate = \"{way}\"");
        let setup = ca(
            &[("east", shared(), &credential, &keys)],
            "default_cluster = \"east\"",
        );
        setup.edit("level = \"trace\"", "level = \"info\"");
        let server = setup.serve().await;
        let first = tokens.pop().unwrap();
        let caller = Caller::new(&server, ns, "app").await;
        eventually(PATIENCE, "the cluster", async || {
            caller.ask(&first, None).await.is_ok()
        })
        .await;
        if way == "offline" {
            offline(&setup, &caller, &first).await;
        }
        let caller = Arc::new(caller);
        let started = Instant::now();
        let mut times: Vec<Duration> = futures_util::stream::iter(tokens)
            .map(|token| {
                let caller = Arc::clone(&caller);
                tokio::spawn(async move {
                    let started = Instant::now();
                    caller.ask(&token, None).await.unwrap();
                    started.elapsed()
                })
            })
            .buffer_unordered(tasks)
            .map(Result::unwrap)
            .collect()
            .await;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        eprintln!(
            "{way}: {rate:.0} CSR/s, p50 {:?}, p99 {:?} ({count} calls, {tasks} at a time)",
            at(50),
            at(99)
        );
        server.stop().await;
    }
}
