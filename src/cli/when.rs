//! Moments as operators write them.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::UnixTime;

/// `2026-11-22`, `2026-11-22T18:00:00Z`, or a span such as `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    At(UnixTime),
    Span(Duration),
}

impl When {
    /// A span is counted back from `now`.
    pub(super) fn ago(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(at) => at,
            Self::Span(span) => now.minus(span),
        }
    }

    /// A span is counted on from `now`.
    pub(super) fn ahead(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(at) => at,
            Self::Span(span) => now.plus(span),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(span) = humantime::parse_duration(text) {
            return Ok(Self::Span(span));
        }
        let moment = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        humantime::parse_rfc3339_weak(&moment)
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .map(|secs| Self::At(UnixTime::from_secs(secs)))
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
        assert_eq!("1h".parse::<When>().unwrap().ago(now).secs(), 999_996_400);
        assert_eq!(
            "1h".parse::<When>().unwrap().ahead(now).secs(),
            1_000_003_600
        );
        let day = "2026-09-21".parse::<When>().unwrap().ahead(now);
        assert_eq!(day.to_string(), "2026-09-21T00:00:00Z");
        assert_eq!(
            "2026-09-21T00:00:00Z".parse::<When>().unwrap().ago(now),
            day
        );
        assert!("soon".parse::<When>().is_err());
    }
}
