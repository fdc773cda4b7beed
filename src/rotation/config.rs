//! `[rotation]`: whether rotations move by themselves, and when.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::UnixTime;
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[rotation]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Makes each move as soon as nothing holds it back. Default false: an operator makes them.
    pub auto: bool,
    /// When it may, as `HH:MM-HH:MM` in UTC. Default: always.
    pub windows: Vec<String>,
    /// How long a pod may take to read an object that was changed, and a client to ask again for an
    /// answer that it did not get. Default 2m.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            auto: false,
            windows: Vec::new(),
            settle: Duration::from_secs(120),
        }
    }
}

/// A checked `[rotation]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    auto: bool,
    windows: Vec<Window>,
    settle: Duration,
}

/// A part of each day, in minutes from midnight UTC. It may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: i64,
    to: i64,
}

impl Config {
    /// Whether a rotation may move by itself at this time.
    pub fn moves_at(&self, now: UnixTime) -> bool {
        let minute = now.secs().div_euclid(60).rem_euclid(24 * 60);
        let mut windows = self.windows.iter();
        self.auto && (self.windows.is_empty() || windows.any(|window| window.holds(minute)))
    }

    pub fn settle(&self) -> Duration {
        self.settle
    }
}

impl Window {
    const fn holds(self, minute: i64) -> bool {
        match self.from <= self.to {
            true => self.from <= minute && minute < self.to,
            false => self.from <= minute || minute < self.to,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let is_plain = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            let number = |text: &str| is_plain(text).then(|| text.parse::<i64>().ok()).flatten();
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let window = Self {
            from: minute(from)?,
            to: minute(to)?,
        };
        (window.from != window.to).then_some(window)
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let mut windows = Vec::new();
        for text in &raw.windows {
            match Window::parse(text) {
                Some(window) => windows.push(window),
                None => issues.push(
                    ConfigIssue::new(
                        "rotation.windows",
                        format_args!("`{text}` is no part of a day"),
                    )
                    .with_fix("write two times in UTC, such as \"22:00-04:00\""),
                ),
            }
        }
        issues.require(
            (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&raw.settle),
            "rotation.settle",
            "must be 1s to 1h",
        );
        issues.into_result(Some(Self {
            auto: raw.auto,
            windows,
            settle: raw.settle,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rotation_moves_by_itself_in_its_windows() {
        let config = |auto, windows: &[&str]| {
            let windows = windows.iter().map(|text| (*text).to_owned()).collect();
            let raw = RawConfig {
                auto,
                windows,
                ..RawConfig::default()
            };
            Config::try_from(raw).unwrap()
        };
        let at = |hours: i64, minutes: i64| {
            UnixTime::from_secs(86_400 * 20_000 + hours * 3600 + minutes * 60)
        };
        assert!(config(true, &[]).moves_at(at(12, 0)));
        assert!(!config(false, &[]).moves_at(at(12, 0)));
        let day = config(true, &["08:00-12:00", "13:30-14:00"]);
        for (hours, minutes, moves) in [
            (7, 59, false),
            (8, 0, true),
            (11, 59, true),
            (12, 0, false),
            (13, 30, true),
        ] {
            assert_eq!(day.moves_at(at(hours, minutes)), moves, "{hours}:{minutes}");
        }
        let night = config(true, &["22:00-04:00"]);
        for (hours, moves) in [
            (21, false),
            (22, true),
            (23, true),
            (0, true),
            (3, true),
            (4, false),
        ] {
            assert_eq!(night.moves_at(at(hours, 0)), moves, "{hours}");
        }
        assert!(!config(false, &["22:00-04:00"]).moves_at(at(23, 0)));
    }

    #[test]
    fn what_is_no_window_is_named() {
        for text in [
            "",
            "8-12",
            "08:00",
            "08:00-08:00",
            "24:00-01:00",
            "08:60-09:00",
            "+8:00-09:00",
        ] {
            let raw = RawConfig {
                windows: vec![text.to_owned()],
                ..RawConfig::default()
            };
            let issues = Config::try_from(raw).unwrap_err().to_string();
            assert!(issues.contains("rotation.windows"), "{text}: {issues}");
        }
    }
}
