//! What several test suites share: a configured CA and its running server, callers' tokens and
//! requests, clients, openssl, and doubles for what surrounds the server.

pub mod chain;
pub mod command;
pub mod csr;
pub mod fake_clock;
pub mod grpc;
pub mod jwt;
pub mod openssl;
pub mod random;
pub mod running;
pub mod server;
pub mod softhsm;
pub mod tls_client;
pub mod tls_server;

use std::time::{Duration, Instant};

pub use grpc::Client;
pub use running::RunningServer;
pub use server::TestServer;

/// The trust domain of most tests.
pub const TD: &str = "cluster.local";

/// A limit for what takes moments, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done` returns true, for at most `limit`; returns how long that took.
pub async fn eventually<F: AsyncFnMut() -> bool>(
    limit: Duration,
    what: &str,
    mut done: F,
) -> Duration {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}
