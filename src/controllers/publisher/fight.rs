//! Somebody who writes the same place again and again: noticed, said once, and answered ever more
//! slowly, because two writers that never tire only wear out the API server.

use std::time::{Duration, Instant};

/// So many times undone within [`WINDOW`] is no accident.
const ROUNDS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// The first and the longest wait before the place is written again.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// How often a place was undone.
#[derive(Debug, Default)]
pub(super) struct Fight {
    since: Option<Instant>,
    last: Option<Instant>,
    rounds: u32,
    /// Waits so far, once it is a fight.
    waits: u32,
    said: bool,
}

impl Fight {
    /// What stood here was undone by somebody else.
    pub(super) fn undone(&mut self, now: Instant) {
        let quiet = self
            .last
            .is_none_or(|last| now.duration_since(last) > self.memory());
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

    /// How long to leave the place alone now; `None` when it is no fight.
    pub(super) fn wait(&self) -> Option<Duration> {
        let doublings = self.waits.checked_sub(1)?;
        Some(FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST))
    }

    /// Whether it is a fight at `now`.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.waits > 0
            && self
                .last
                .is_some_and(|last| now.duration_since(last) <= self.memory())
    }

    /// Whether it is to be said now: once for each fight.
    pub(super) fn begins(&mut self) -> bool {
        self.waits > 0 && !std::mem::replace(&mut self.said, true)
    }

    /// After this quiet time the fight is forgotten.
    fn memory(&self) -> Duration {
        self.wait().unwrap_or_default() + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_edits_are_no_fight() {
        let (mut fight, begin) = (Fight::default(), Instant::now());
        for n in 0..20 {
            fight.undone(begin + Duration::from_secs(20 * n));
            assert_eq!(fight.wait(), None, "after {n} rounds");
        }
    }

    #[test]
    fn a_fight_is_said_once_and_slows_down() {
        let (mut fight, mut now) = (Fight::default(), Instant::now());
        for _ in 0..ROUNDS {
            assert!(!fight.begins());
            fight.undone(now);
        }
        assert!(fight.begins() && !fight.begins());
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = fight.wait().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            fight.undone(now);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(fight.is_on(now));
        assert!(!fight.is_on(now + LONGEST + WINDOW + FIRST));
        fight.undone(now + 2 * LONGEST);
        assert_eq!(fight.wait(), None, "a new count has begun");
    }
}
