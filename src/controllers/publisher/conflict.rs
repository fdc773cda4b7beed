//! Somebody who writes the same place again and again: noticed, is_reported once, and answered ever more
//! slowly, because two writers that never tire only wear out the API server.

use std::time::{Duration, Instant};

/// So many times overwritten within [`WINDOW`] is no accident.
const ROUNDS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// The first and the longest wait before the place is written again.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// How often a place was overwritten.
#[derive(Debug, Default)]
pub(super) struct WriteConflict {
    since: Option<Instant>,
    last: Option<Instant>,
    rounds: u32,
    /// Waits so far, once it is a conflict.
    waits: u32,
    is_reported: bool,
}

impl WriteConflict {
    /// What stood here was overwritten by somebody else.
    pub(super) fn overwritten(&mut self, now: Instant) {
        let quiet = self
            .last
            .is_none_or(|last| now.duration_since(last) > self.quiet_period());
        let over = self.waits == 0
            && self
                .since
                .is_some_and(|since| now.duration_since(since) > WINDOW);
        if quiet || over {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        self.last = Some(now);
        self.rounds += 1;
        if self.rounds >= ROUNDS {
            self.waits += 1;
        }
    }

    /// How long to leave the place alone now; `None` when it is no conflict.
    pub(super) fn delay(&self) -> Option<Duration> {
        let doublings = self.waits.checked_sub(1)?;
        Some(FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST))
    }

    /// Whether it is a conflict at `now`.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.waits > 0
            && self
                .last
                .is_some_and(|last| now.duration_since(last) <= self.quiet_period())
    }

    /// Whether it is to be is_reported now: once for each conflict.
    pub(super) fn should_report(&mut self) -> bool {
        self.waits > 0 && !std::mem::replace(&mut self.is_reported, true)
    }

    /// After this quiet time the conflict is forgotten.
    fn quiet_period(&self) -> Duration {
        self.delay().unwrap_or_default() + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_edits_are_no_fight() {
        let (mut conflict, begin) = (WriteConflict::default(), Instant::now());
        for n in 0..20 {
            conflict.overwritten(begin + Duration::from_secs(20 * n));
            assert_eq!(conflict.delay(), None, "after {n} rounds");
        }
    }

    #[test]
    fn a_fight_is_said_once_and_slows_down() {
        let (mut conflict, mut now) = (WriteConflict::default(), Instant::now());
        for _ in 0..ROUNDS {
            assert!(!conflict.should_report());
            conflict.overwritten(now);
        }
        assert!(conflict.should_report() && !conflict.should_report());
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = conflict.delay().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            conflict.overwritten(now);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(conflict.is_active(now));
        assert!(!conflict.is_active(now + LONGEST + WINDOW + FIRST));
        conflict.overwritten(now + 2 * LONGEST);
        assert_eq!(conflict.delay(), None, "a new count has begun");
    }
}
