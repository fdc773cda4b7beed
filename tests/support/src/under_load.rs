//! A server that workloads use all the time, and that is killed meanwhile.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::csr::KeyAndCsr;
use crate::random::SplitMix64;
use crate::{RunningServer, TD, TestServer};

/// Each has a rate of its own.
const CALLERS: usize = 4;

/// Workloads get certificates at the same time, each verified with the bundle that came with it.
pub async fn workloads_are_served(setup: &TestServer, server: &RunningServer) {
    let mut calls = JoinSet::new();
    for number in 0..CALLERS {
        let account = format!("cart-{number}");
        let token = setup.issuer.istio("shop", &account);
        let csr = KeyAndCsr::workload("shop", &account);
        let client = server.client(TD).await;
        calls.spawn(async move {
            let chain = client.istio(&token, &csr).await.unwrap();
            let name = format!("spiffe://{TD}/ns/shop/sa/{account}");
            assert_eq!(chain.names(), [name]);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

/// No key is in the token without a record.
pub fn every_key_is_recorded(setup: &TestServer) {
    let keys: Vec<Value> =
        serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    let unrecorded: Vec<_> = keys.iter().filter(|key| key["use"].is_null()).collect();
    assert!(unrecorded.is_empty(), "{unrecorded:?}");
}

/// Kills of a server (kill -9) at random moments, with calls in flight.
pub struct Kills {
    random: SplitMix64,
    left: usize,
    apart: Duration,
    next: Instant,
}

impl Kills {
    /// So many, each at most `apart` after the last.
    pub fn new(count: usize, apart: Duration) -> Self {
        let seed = u64::from(std::process::id());
        println!("kills with the seed {seed}");
        let mut kills = Self {
            random: SplitMix64(seed),
            left: count,
            apart,
            next: Instant::now(),
        };
        kills.plan();
        kills
    }

    fn plan(&mut self) {
        let apart = u64::try_from(self.apart.as_millis()).unwrap();
        self.next = Instant::now() + Duration::from_millis(self.random.next() % apart);
    }

    pub fn are_done(&self) -> bool {
        self.left == 0
    }

    /// Kills the server if it is time, and starts the next one.
    pub async fn perhaps(
        &mut self,
        setup: &TestServer,
        mut server: RunningServer,
    ) -> RunningServer {
        if self.left == 0 || Instant::now() < self.next {
            return server;
        }
        let token = setup.issuer.istio("shop", "interrupted");
        let csr = KeyAndCsr::workload("shop", "interrupted");
        let client = server.client(TD).await;
        // Whether it has an answer is not known.
        let call = tokio::spawn(async move { client.istio(&token, &csr).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(self.random.next() % 20)).await;
        server.kill();
        call.await.unwrap();
        drop(server);
        let server = setup.serve().await;
        self.left -= 1;
        self.plan();
        server
    }
}
