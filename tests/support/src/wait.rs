//! Waiting with a limit.

use std::time::{Duration, Instant};

/// A limit for what takes moments, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asserts that `holds` returns true for all of `span`: for what must not happen, which no state shows.
pub async fn stays<F: AsyncFnMut() -> bool>(span: Duration, what: &str, mut holds: F) {
    let start = Instant::now();
    while start.elapsed() < span {
        let after = start.elapsed();
        assert!(holds().await, "no longer after {after:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

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
