//! Waits that double, with jitter, so that many who fail together do not come again together.

use std::time::Duration;

/// Waits that double up to a longest one.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        after(self.failures, self.first, self.longest)
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after so many failures in a row: between three and five quarters of
/// `first` doubled for each but the first, and about `longest` at most.
pub(super) fn after(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let mut byte = [0];
    // Without randomness it is just no jitter.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    let [byte] = byte;
    doubled.min(longest) * (192 + u32::from(byte) / 2) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_begin_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 8 * second);
        for expected in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.next();
            let expected = second * expected;
            assert!(
                wait >= expected * 3 / 4 && wait <= expected * 5 / 4,
                "{wait:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= second * 5 / 4);
    }
}
