//! Time as a parameter: only this module reads the system's clock.

// A contract with several implementations: each item documents its promise.
#![warn(missing_docs)]

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whole seconds since 1970-01-01T00:00:00Z, the precision of X.509 (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// From seconds since 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Seconds since 1970.
    pub const fn secs(self) -> i64 {
        self.0
    }

    /// Adds whole seconds of `span`; saturates.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(span.as_secs()))
    }

    /// Subtracts whole seconds of `span`; saturates.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(span.as_secs()))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC, to the second; `@seconds` before 1970 and after 9999.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = u64::try_from(self.0)
            .ok()
            .and_then(|secs| UNIX_EPOCH.checked_add(Duration::from_secs(secs)));
        match at {
            Some(at) if self.0 < 253_402_300_800 => humantime::format_rfc3339_seconds(at).fmt(f),
            _ => write!(f, "@{}", self.0),
        }
    }
}

/// A span for people, exact to the second: `10 years`, `90 days`, `1 hour 5 minutes`. The
/// configuration reads it back; a year is that of its `y`, 365.25 days.
pub fn in_words(span: Duration) -> String {
    const YEAR: u64 = 31_557_600;
    let secs = span.as_secs();
    let numbers = match secs {
        0 => return "0 seconds".to_owned(),
        _ if secs.is_multiple_of(YEAR) => vec![(secs / YEAR, "year")],
        _ => vec![
            (secs / 86_400, "day"),
            (secs / 3600 % 24, "hour"),
            (secs / 60 % 60, "minute"),
            (secs % 60, "second"),
        ],
    };
    let shown = numbers.iter().filter(|(number, _)| *number > 0);
    let shown = shown.map(|(number, unit)| match number {
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current time.
    fn now(&self) -> UnixTime;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let secs = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        UnixTime(secs)
    }
}

/// A clock that is set by hand, for simulated time.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// Starts at `at`.
    pub const fn new(at: UnixTime) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Sets the time.
    pub fn set(&self, at: UnixTime) {
        self.0.store(at.0, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration reads what is shown.
    #[test]
    fn spans_are_in_words_and_exact() {
        for (secs, shown) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "1 minute 30 seconds"),
            (3_900, "1 hour 5 minutes"),
            (7_776_000, "90 days"),
            (31_536_000, "365 days"),
            (31_557_600, "1 year"),
            (315_576_000, "10 years"),
            (315_576_001, "3652 days 12 hours 1 second"),
        ] {
            let span = Duration::from_secs(secs);
            assert_eq!(in_words(span), shown);
            assert_eq!(humantime::parse_duration(shown), Ok(span));
        }
    }

    #[test]
    fn shows_rfc3339_and_saturates() {
        let at = UnixTime::from_secs(1_790_000_000);
        assert_eq!(at.to_string(), "2026-09-21T14:13:20Z");
        assert_eq!(
            at.plus(Duration::from_secs(60)).since(at),
            Duration::from_secs(60)
        );
        assert_eq!(at.since(at.plus(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(
            UnixTime::from_secs(i64::MAX)
                .plus(Duration::from_secs(1))
                .secs(),
            i64::MAX
        );
        assert_eq!(UnixTime::from_secs(-1).to_string(), "@-1");
    }
}
