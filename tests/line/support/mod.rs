//! A configured CA, its server, callers' tokens and requests, clients.

pub(crate) mod calls;
pub(crate) mod chain;
pub(crate) mod clock;
pub(crate) mod jwt;
pub(crate) mod line;
pub(crate) mod openssl;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod tls;

use std::time::{Duration, Instant};

pub(crate) use calls::Client;
pub(crate) use line::Line;
pub(crate) use server::Server;

/// The trust domain of most tests.
pub(crate) const TD: &str = "cluster.local";

/// Waits until `done` says so, for at most `limit`; answers how long that took.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(
    limit: Duration,
    what: &str,
    mut done: F,
) -> Duration {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// Long enough for a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
