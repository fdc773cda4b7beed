//! Moments as operators write them.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::UnixTime;

/// `2026-11-22`, `2026-11-22T18:00:00Z`, or a span such as `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateOrDuration {
    Time(UnixTime),
    Duration(Duration),
}

impl DateOrDuration {
    /// A span is counted back from `now`.
    pub(super) fn before(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Time(at) => at,
            Self::Duration(span) => now.minus(span),
        }
    }

    /// A span is counted on from `now`.
    pub(super) fn after(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Time(at) => at,
            Self::Duration(span) => now.plus(span),
        }
    }
}

impl FromStr for DateOrDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(span) = humantime::parse_duration(text) {
            return Ok(Self::Duration(span));
        }
        let moment = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        humantime::parse_rfc3339_weak(&moment)
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .map(|secs| Self::Time(UnixTime::from_secs(secs)))
            .ok_or("expected a date (2026-11-22 or 2026-11-22T18:00:00Z) or a span (24h, 30d)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_and_spans() {
        let now = UnixTime::from_secs(1_000_000_000);
        assert_eq!(
            "1h".parse::<DateOrDuration>().unwrap().before(now).secs(),
            999_996_400
        );
        assert_eq!(
            "1h".parse::<DateOrDuration>().unwrap().after(now).secs(),
            1_000_003_600
        );
        let day = "2026-09-21".parse::<DateOrDuration>().unwrap().after(now);
        assert_eq!(day.to_string(), "2026-09-21T00:00:00Z");
        assert_eq!(
            "2026-09-21T00:00:00Z"
                .parse::<DateOrDuration>()
                .unwrap()
                .before(now),
            day
        );
        assert!("soon".parse::<DateOrDuration>().is_err());
    }
}
