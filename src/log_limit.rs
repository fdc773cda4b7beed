//! Limits for log lines that a loop or many callers would repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a reason be logged when it differs from the previous one.
#[derive(Clone, Debug, Default)]
pub struct OnChange(String);

impl OnChange {
    /// Whether `reason` is to be logged; it then counts as logged.
    pub fn is_new(&mut self, reason: &str) -> bool {
        let is_new = self.0 != reason;
        if is_new {
            reason.clone_into(&mut self.0);
        }
        is_new
    }

    /// To be called after a success: the next failure is logged whatever its reason.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Lets one line be logged in each interval, and counts those it suppresses.
#[derive(Debug)]
pub struct Interval {
    interval: Duration,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Interval {
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: Mutex::new(None),
        }
    }

    /// `Some` when a line may be logged now, with the number suppressed since the previous one.
    pub fn allow(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_mut() {
            Some((at, suppressed)) if at.elapsed() < self.interval => {
                *suppressed += 1;
                None
            }
            _ => Some(
                last.replace((Instant::now(), 0))
                    .map_or(0, |(_, suppressed)| suppressed),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_reason_is_logged_once() {
        let mut reasons = OnChange::default();
        assert!(reasons.is_new("a") && !reasons.is_new("a"));
        assert!(reasons.is_new("b") && reasons.is_new("a"));
        reasons.clear();
        assert!(reasons.is_new("a"));
    }

    #[test]
    fn one_line_in_each_interval() {
        let limit = Interval::new(Duration::MAX);
        assert_eq!(limit.allow(), Some(0));
        assert_eq!([limit.allow(), limit.allow()], [None, None]);
        let over = Interval {
            interval: Duration::ZERO,
            ..limit
        };
        assert_eq!(over.allow(), Some(2));
    }
}
