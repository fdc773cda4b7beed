//! What a renewal costs those who are served meanwhile. With nothing else running:
//! `cargo test --release --test upstream -- --ignored --nocapture a_renewal_delays_nobody`
//!
//! The calls of one run are divided by whether a renewal was in progress when they began, so that the speed of
//! the machine, which varies from minute to minute, concerns both parts.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::authority::{approve, configure, wait_for_state};
use crate::enterprise::Enterprise;
use crate::renewal::{SHORT_LIFE, shorten_profiles};

const RENEWALS: usize = 12;
const CALLERS: usize = 16;
/// Of each caller, between two calls: the cores are not the limit.
const PAUSE: Duration = Duration::from_millis(20);

/// When a call began, and how long it took.
type Call = (Timestamp, Duration);

/// From a renewal's first record to its last, by the server's log.
fn renewals(server: &RunningServer) -> Vec<(Timestamp, Timestamp)> {
    let log = server.log();
    let events = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut found, mut begun) = (Vec::new(), None);
    for event in events {
        let at = || event["timestamp"].as_str()?.parse::<Timestamp>().ok();
        match event["event"].as_str() {
            Some("upstream.begun") => begun = at(),
            Some("upstream.activated") => found.extend(begun.take().zip(at())),
            _ => {}
        }
    }
    found
}

fn p99(mut calls: Vec<Duration>) -> Duration {
    calls.sort_unstable();
    calls[calls.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
#[allow(clippy::print_stdout, reason = "a figure")]
async fn a_renewal_delays_nobody() {
    let setup = TestServer::bare();
    shorten_profiles(&setup);
    let ca = Enterprise::new(setup.path("enterprise"));
    ca.certificates_live(100);
    configure(&setup, &ca, SHORT_LIFE).await;
    let server = setup.start().await;
    wait_for_state(&setup, &server, "received").await;
    approve(&setup, &ca);
    server.ready().await;

    let stop = tokio_util::sync::CancellationToken::new();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = server.client(TD).await;
        let stop = stop.clone();
        // So many that no rate of one of them is the limit.
        let accounts: Vec<_> = (0..50)
            .map(|number| {
                let account = format!("cart-{caller}-{number}");
                let token = setup.issuer.istio("shop", &account);
                (token, KeyAndCsr::workload("shop", &account))
            })
            .collect();
        callers.spawn(async move {
            let mut calls = Vec::<Call>::new();
            for (token, csr) in accounts.iter().cycle() {
                if stop.is_cancelled() {
                    break;
                }
                let (at, start) = (Timestamp::now(), Instant::now());
                client.istio(token, csr).await.unwrap();
                calls.push((at, start.elapsed()));
                tokio::time::sleep(PAUSE).await;
            }
            calls
        });
    }
    let begun = server.log().matches("upstream.activated").count();
    eventually(PATIENCE * 10, "renewals", async || {
        server.log().matches("upstream.activated").count() >= begun + RENEWALS
    })
    .await;
    stop.cancel();
    let calls: Vec<Call> = callers.join_all().await.concat();
    let renewals = renewals(&server);
    let during = |at: &Timestamp| renewals.iter().any(|(from, to)| (from..=to).contains(&at));
    let (inside, outside): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(at, _)| during(at));
    let times = |calls: Vec<Call>| calls.into_iter().map(|(_, took)| took).collect::<Vec<_>>();
    let (inside, outside) = (times(inside), times(outside));
    let (many, few) = (outside.len(), inside.len());
    let (with, without) = (p99(inside), p99(outside));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    let text = format!(
        "{} renewals: p99 {with:?} of {few} calls during one, {without:?} of {many} others, ratio {ratio:.3}",
        renewals.len()
    );
    println!("{text}");
    server.stop().await;
    assert!(ratio < 1.1, "{text}");
}
