//! Rates of many callers (GCRA), in a table of bounded size.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at once, then so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

impl Rate {
    /// The time that one takes up.
    fn cost(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// How far ahead of now the spent time may be.
    fn window(self) -> Duration {
        self.cost().saturating_mul(self.burst.max(1))
    }
}

/// While more keys than fit are in use, those that do not fit share one rate.
const OVERFLOW: u64 = 0;
/// How long a table that is full stays so, before it is searched again for what can leave.
const SEARCH: Duration = Duration::from_secs(1);

/// What each key has spent. A key whose burst is whole again needs no entry.
#[derive(Debug)]
pub struct KeyedRates {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Until when the time of a key is spent.
    spent_until: HashMap<u64, Instant>,
    searched: Option<Instant>,
}

impl KeyedRates {
    /// With at most `most` entries of a few dozen bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            table: Mutex::default(),
        }
    }

    /// Takes one, or answers how long to wait for it.
    pub fn take(&self, key: u64, rate: Rate) -> Result<(), Duration> {
        self.at(key, rate, Instant::now(), true)
    }

    /// Whether one could be taken now.
    pub fn look(&self, key: u64, rate: Rate) -> Result<(), Duration> {
        self.at(key, rate, Instant::now(), false)
    }

    fn at(&self, key: u64, rate: Rate, now: Instant, take: bool) -> Result<(), Duration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match table.has_room_for(key, self.most, now) {
            true => key,
            false => OVERFLOW,
        };
        let spent = table.spent_until.get(&key).copied().unwrap_or(now).max(now);
        let until = spent + rate.cost();
        let ahead = until.duration_since(now);
        if ahead > rate.window() {
            return Err(ahead - rate.window());
        }
        if take {
            table.spent_until.insert(key, until);
        }
        Ok(())
    }
}

impl Table {
    fn has_room_for(&mut self, key: u64, most: usize, now: Instant) -> bool {
        if self.spent_until.contains_key(&key) || self.spent_until.len() < most {
            return true;
        }
        let is_due = |at: Instant| now.duration_since(at) >= SEARCH;
        if self.searched.is_none_or(is_due) {
            self.searched = Some(now);
            self.spent_until.retain(|_, until| *until > now);
        }
        self.spent_until.len() < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[test]
    fn a_burst_and_then_a_rate() {
        let rates = KeyedRates::new(8);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let take = |key, ms| rates.at(key, RATE, at(ms), true);
        assert!((0..3).all(|_| take(1, 0).is_ok()));
        assert_eq!(take(1, 0), Err(Duration::from_millis(100)));
        assert_eq!(take(2, 0), Ok(()), "of another caller nothing is spent");
        assert_eq!(take(1, 60), Err(Duration::from_millis(40)));
        assert_eq!((take(1, 100), take(1, 100).is_err()), (Ok(()), true));
        // Whole again, and no more than that.
        assert_eq!((0..5).filter(|_| take(1, 60_000).is_ok()).count(), 3);
    }

    #[test]
    fn a_look_takes_nothing() {
        let rates = KeyedRates::new(8);
        let now = Instant::now();
        assert!((0..10).all(|_| rates.at(1, RATE, now, false).is_ok()));
        assert_eq!(
            (0..5)
                .filter(|_| rates.at(1, RATE, now, true).is_ok())
                .count(),
            3
        );
        assert!(rates.at(1, RATE, now, false).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_has_spent_nothing() {
        let rates = KeyedRates::new(4);
        let start = Instant::now();
        let entries = || {
            rates
                .table
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .spent_until
                .len()
        };
        for key in 1..100 {
            let _ = rates.at(key, RATE, start, true);
        }
        assert!(entries() <= 5, "{}", entries());
        // Those that did not fit have shared one burst.
        assert!(rates.at(1000, RATE, start, true).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!(rates.at(1000, RATE, later, true), Ok(()));
        assert_eq!(entries(), 1);
    }
}
