//! Dates and durations, as operators write them.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::UnixTime;

/// `2026-11-22`, `2026-11-22T18:00:00Z`, or a duration such as `24h`; UTC where no offset is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateOrDuration {
    Date(UnixTime),
    Duration(Duration),
}

impl DateOrDuration {
    /// The date, or the time one duration before `now`.
    pub(super) fn before(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Date(date) => date,
            Self::Duration(duration) => now.minus(duration),
        }
    }

    /// The date, or the time one duration after `now`.
    pub(super) fn after(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Date(date) => date,
            Self::Duration(duration) => now.plus(duration),
        }
    }
}

impl FromStr for DateOrDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Durations have one syntax, here and in the configuration.
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::Duration(duration));
        }
        let utc = |date: DateTime| TimeZone::UTC.to_timestamp(date);
        text.parse::<Timestamp>()
            .or_else(|_| text.parse().and_then(utc))
            .map(|date| Self::Date(UnixTime::from_secs(date.as_second())))
            .map_err(
                |_| "expected a date (2026-11-22 or 2026-11-22T18:00:00Z) or a duration (24h, 30d)",
            )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_and_durations() {
        let now = UnixTime::from_secs(1_000_000_000);
        let parse = |text: &str| text.parse::<DateOrDuration>().unwrap();
        assert_eq!(parse("1h").before(now).secs(), 999_996_400);
        assert_eq!(parse("1h").after(now).secs(), 1_000_003_600);
        let day = parse("2026-09-21").after(now);
        assert_eq!(day.to_string(), "2026-09-21T00:00:00Z");
        for same in [
            "2026-09-21T00:00:00Z",
            "2026-09-21 00:00:00",
            "2026-09-21T02:00:00+02:00",
        ] {
            assert_eq!(parse(same).before(now), day, "{same}");
        }
        assert!("soon".parse::<DateOrDuration>().is_err());
    }
}
