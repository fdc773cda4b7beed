//! Exponential backoff with jitter: one schedule for every retry in the process.
//!
//! `backon` retries a future; here a wait belongs to a queue entry, a thread or a failure count, and
//! must never pass its maximum.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Waits that double from `first` to `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// Counts a failure and returns the wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        delay(self.failures, self.first, self.max)
    }

    /// To be called after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after so many failures in a row. Jitter shortens it by up to a quarter, so that what
/// failed together is not retried together.
pub fn delay(failures: u32, first: Duration, max: Duration) -> Duration {
    let full = doubled(failures, first, max);
    let jitter = RandomState::new().hash_one(failures) % 1024;
    full - full / 4096 * u32::try_from(jitter).unwrap_or_default()
}

/// `first`, doubled for each failure after the first, at most `max`.
pub fn doubled(failures: u32, first: Duration, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn is_near(wait: Duration, full: Duration) -> bool {
        wait > full * 3 / 4 - Duration::from_millis(1) && wait <= full
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_restart_after_a_reset() {
        let mut backoff = Backoff::new(SECOND, 8 * SECOND);
        for expected in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.next_delay();
            assert!(is_near(wait, SECOND * expected), "{wait:?}");
        }
        backoff.reset();
        assert!(is_near(backoff.next_delay(), SECOND));
    }

    #[test]
    fn any_number_of_failures_has_a_delay() {
        for failures in [0, 1, 17, 40, u32::MAX] {
            assert!(delay(failures, SECOND, 60 * SECOND) <= 60 * SECOND);
        }
        assert!(is_near(delay(0, SECOND, 60 * SECOND), SECOND));
        let longest = delay(u32::MAX, SECOND, 60 * SECOND);
        assert!(is_near(longest, 60 * SECOND));
    }
}
