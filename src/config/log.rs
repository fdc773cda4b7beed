//! `[log]`: level and format of log lines.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config_issue::ConfigIssue;

/// `[log]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// Default `auto`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as
    /// `info,rootbridge::hsm=debug`. Default `info`.
    pub level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line for each event.
    Human,
    /// One JSON object for each event.
    Json,
}

/// A checked `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    format: LogFormat,
    level: String,
}

impl LogConfig {
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Directives that [`EnvFilter`] understands.
    pub fn level(&self) -> &str {
        &self.level
    }
}

impl TryFrom<RawLog> for LogConfig {
    type Error = ConfigIssue;

    fn try_from(raw: RawLog) -> Result<Self, ConfigIssue> {
        let level = raw.level.unwrap_or_else(|| "info".to_owned());
        let unknown = |why: &str| {
            ConfigIssue::new(
                "log.level",
                format_args!("`{level}` is not understood ({why})"),
            )
            .with_fix("write info, or info,rootbridge::hsm=debug")
        };
        match EnvFilter::builder().parse(&level) {
            // EnvFilter takes a single word that is not a level for a target, and logs nothing.
            Ok(_) if !level.contains('=') && level.split(',').any(|word| !is_level(word)) => {
                Err(unknown("no such level"))
            }
            Ok(_) => Ok(Self {
                format: raw.format,
                level,
            }),
            Err(error) => Err(unknown(&error.to_string())),
        }
    }
}

fn is_level(word: &str) -> bool {
    !word.is_empty() && word.parse::<tracing::level_filters::LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        let level = |text: &str| {
            let level = Some(text.to_owned());
            LogConfig::try_from(RawLog {
                level,
                ..RawLog::default()
            })
        };
        for good in ["info", "off", "DEBUG", "info,rootbridge::hsm=debug"] {
            assert!(level(good).is_ok(), "{good}");
        }
        for bad in ["loud", "info,rootbridge=loud", ""] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }
}
