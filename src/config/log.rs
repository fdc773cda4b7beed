//! `[log]`: how much is said, and in which form.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// `[log]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// The form. Default `auto`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as
    /// `info,rootbridge::hsm=debug`. Default `info`.
    pub level: Option<String>,
}

/// The form of log lines.
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
    /// The form of log lines.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Directives that [`EnvFilter`] understands.
    pub fn level(&self) -> &str {
        &self.level
    }
}

/// A value of `[log]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "log.level: `{level}` is not understood ({why}); write info, or info,rootbridge::hsm=debug"
)]
pub struct LogError {
    level: String,
    why: String,
}

impl TryFrom<RawLog> for LogConfig {
    type Error = LogError;

    fn try_from(raw: RawLog) -> Result<Self, LogError> {
        let level = raw.level.unwrap_or_else(|| "info".to_owned());
        match EnvFilter::builder().parse(&level) {
            // A single word that is no level is taken for a target's name: nothing would be said.
            Ok(_) if !level.contains('=') && level.split(',').any(|word| !is_level(word)) => {
                Err(LogError {
                    why: "no such level".to_owned(),
                    level,
                })
            }
            Ok(_) => Ok(Self {
                format: raw.format,
                level,
            }),
            Err(error) => Err(LogError {
                why: error.to_string(),
                level,
            }),
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
