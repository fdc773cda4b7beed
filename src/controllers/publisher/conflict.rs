//! Another writer keeps changing the object: detected, reported once, and answered more and more
//! slowly, because two writers that never give up only load the API server.

use std::time::{Duration, Instant};

use crate::backoff;

/// So many overwrites within [`WINDOW`] are a conflict.
const THRESHOLD: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_secs(5);
const MAX_DELAY: Duration = Duration::from_secs(300);

/// The overwrites of one object by others.
#[derive(Debug, Default)]
pub(super) struct WriteConflict {
    /// The times of the first overwrite counted and of the last.
    span: Option<(Instant, Instant)>,
    overwrites: u32,
    is_reported: bool,
}

impl WriteConflict {
    /// Counts an overwrite by another writer.
    pub(super) fn on_overwrite(&mut self, now: Instant) {
        let is_over = self.span.is_none_or(|(first, last)| {
            now - last > self.quiet_period() || (!self.is_conflict() && now - first > WINDOW)
        });
        if is_over {
            *self = Self::default();
        }
        let first = self.span.map_or(now, |(first, _)| first);
        self.span = Some((first, now));
        self.overwrites += 1;
    }

    /// How long to wait before the next write; `None` without a conflict at `now`.
    pub(super) fn delay(&self, now: Instant) -> Option<Duration> {
        let (_, last) = self.span?;
        let is_active = self.is_conflict() && now - last <= self.quiet_period();
        is_active.then(|| self.full_delay())
    }

    /// Whether to log it now: once for each conflict.
    pub(super) fn should_report(&mut self) -> bool {
        self.is_conflict() && !std::mem::replace(&mut self.is_reported, true)
    }

    fn is_conflict(&self) -> bool {
        self.overwrites >= THRESHOLD
    }

    /// Without jitter: only one object has this writer against it.
    fn full_delay(&self) -> Duration {
        backoff::doubled(self.overwrites + 1 - THRESHOLD, FIRST_DELAY, MAX_DELAY)
    }

    /// A conflict without overwrites for this long is over.
    fn quiet_period(&self) -> Duration {
        match self.is_conflict() {
            true => self.full_delay() + WINDOW,
            false => WINDOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_edits_are_not_a_conflict() {
        let (mut conflict, start) = (WriteConflict::default(), Instant::now());
        for n in 0..20 {
            let now = start + Duration::from_secs(20 * n);
            conflict.on_overwrite(now);
            assert_eq!(conflict.delay(now), None, "after {n} overwrites");
        }
    }

    #[test]
    fn a_conflict_is_reported_once_and_slows_down() {
        let (mut conflict, mut now) = (WriteConflict::default(), Instant::now());
        for _ in 0..THRESHOLD {
            assert!(!conflict.should_report());
            conflict.on_overwrite(now);
        }
        assert!(conflict.should_report() && !conflict.should_report());
        let mut delays = Vec::new();
        for _ in 0..9 {
            let delay = conflict.delay(now).unwrap_or_default();
            delays.push(delay.as_secs());
            now += delay;
            conflict.on_overwrite(now);
        }
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(conflict.delay(now).is_some());
        let later = now + MAX_DELAY + WINDOW + FIRST_DELAY;
        assert_eq!(conflict.delay(later), None);
        conflict.on_overwrite(later);
        assert_eq!(conflict.delay(later), None, "counted from one again");
    }
}
