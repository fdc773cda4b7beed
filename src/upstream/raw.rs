//! `[upstream.NAME]` as it is written: the keys of every kind.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::ConfigIssue;

/// How an upstream CA is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawKind {
    Command,
}

/// `[upstream.NAME]` of the configuration file. `kind` says which of the other keys it may have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// How the CA is reached.
    pub kind: RawKind,
    /// How long one call may take. Default 60s.
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
    /// The first pause between two polls, or after a failure. Default 30s.
    #[serde(default, with = "humantime_serde")]
    pub poll: Option<Duration>,
    /// The longest such pause. Default 6h.
    #[serde(default, with = "humantime_serde")]
    pub longest_poll: Option<Duration>,
    /// The first pause after a request was refused or cancelled. Default 1h.
    #[serde(default, with = "humantime_serde")]
    pub after_refusal: Option<Duration>,
    /// `command`: the program, by its whole path.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// `command`: its arguments.
    #[serde(default)]
    pub arguments: Option<Vec<String>>,
    /// `command`: the environment variables that it gets from this process, beside HOME and PATH.
    #[serde(default)]
    pub environment: Option<Vec<String>>,
}

impl RawUpstream {
    /// The keys that the kind did not take.
    pub(super) fn left(&self) -> Vec<&'static str> {
        let Self {
            kind: _,
            timeout: _,
            poll: _,
            longest_poll: _,
            after_refusal: _,
            program,
            arguments,
            environment,
        } = self;
        [
            ("program", program.is_some()),
            ("arguments", arguments.is_some()),
            ("environment", environment.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_left)| is_left.then_some(key))
        .collect()
    }
}

/// A key that the kind cannot do without.
pub(super) fn required<T>(value: Option<T>, key: &str) -> Result<T, ConfigIssue> {
    value.ok_or_else(|| ConfigIssue::new(key, "is missing, and this kind of upstream needs it"))
}
