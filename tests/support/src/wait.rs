//! Waiting with a limit.

use std::time::{Duration, Instant};

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
