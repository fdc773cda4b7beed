//! `[hsm]`: the module, its tokens, their workers and time limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::pin::PinSource;
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[hsm]` in the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Absolute path of the PKCS#11 module.
    pub module: PathBuf,
    /// Environment variables that the module reads, such as `SOFTHSM2_CONF`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Threads for each token, with a session each. 1 to 256, default 2.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Requests that may wait for each token. 1 to 65536, default 256.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// How long a request may take, waiting included. 50 ms to 10 min, default 5 s.
    #[serde(default = "default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// How often a ready token is checked. 100 ms to 1 h, default 10 s.
    #[serde(default = "default_probe_interval", with = "humantime_serde")]
    pub probe_interval: Duration,
    /// The tokens, by the names that the ledger records.
    #[serde(default)]
    pub tokens: BTreeMap<String, RawTokenConfig>,
}

/// `[hsm.tokens.NAME]` in the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTokenConfig {
    /// The token's label. At least one of label and serial is required.
    pub label: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// File with the user PIN. Exactly one of `pin_file` and `pin_env` is required.
    pub pin_file: Option<PathBuf>,
    /// Environment variable with the user PIN.
    pub pin_env: Option<String>,
    /// Accept keys that the token does not vouch for. Each use is logged as a warning.
    #[serde(default)]
    pub allow_unattested_keys: bool,
}

const fn default_workers() -> usize {
    2
}

/// The default of `queue`.
pub const DEFAULT_QUEUE: usize = 256;

const fn default_queue() -> usize {
    DEFAULT_QUEUE
}

const fn default_deadline() -> Duration {
    Duration::from_secs(5)
}

const fn default_probe_interval() -> Duration {
    Duration::from_secs(10)
}

/// The validated `[hsm]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    module: PathBuf,
    environment: BTreeMap<String, String>,
    workers: usize,
    queue: usize,
    deadline: Duration,
    probe_interval: Duration,
    tokens: BTreeMap<String, TokenConfig>,
}

/// The validated `[hsm.tokens.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    pub(super) label: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) pin: PinSource,
    pub(super) allow_unattested_keys: bool,
    pub(super) final_try: bool,
}

impl Config {
    pub fn module(&self) -> &Path {
        &self.module
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    pub fn queue(&self) -> usize {
        self.queue
    }

    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    pub fn probe_interval(&self) -> Duration {
        self.probe_interval
    }

    pub fn token_names(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    pub fn token(&self, name: &str) -> Option<&TokenConfig> {
        self.tokens.get(name)
    }

    /// Allows one login although a wrong PIN would lock the token (`--final-try`).
    pub fn allow_final_try(&mut self) {
        for token in self.tokens.values_mut() {
            token.final_try = true;
        }
    }

    /// The variables of `hsm.environment` that this process lacks or has with another value. A module
    /// reads them with getenv, so the process must be started again with them.
    pub fn missing_environment(&self) -> Vec<(&str, &str)> {
        self.environment
            .iter()
            .filter(|(name, value)| std::env::var(name).as_ref() != Ok(value))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

impl TokenConfig {
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    pub fn pin(&self) -> &PinSource {
        &self.pin
    }

    /// See [`RawTokenConfig::allow_unattested_keys`].
    pub fn allows_unattested_keys(&self) -> bool {
        self.allow_unattested_keys
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        issues.require(
            raw.module.is_absolute(),
            "hsm.module",
            "give the module's absolute path, such as /usr/lib/softhsm/libsofthsm2.so",
        );
        for (name, value) in &raw.environment {
            let key = "hsm.environment";
            issues.require(
                is_variable_name(name),
                key,
                format_args!("{name:?} is not a variable's name"),
            );
            issues.require(
                !value.contains('\0'),
                key,
                format_args!("the value of {name:?} holds a NUL"),
            );
        }
        let (workers, queue) = ((1..=256), (1..=65_536));
        issues.require(
            workers.contains(&raw.workers),
            "hsm.workers",
            "must be 1 to 256",
        );
        issues.require(
            queue.contains(&raw.queue),
            "hsm.queue",
            "must be 1 to 65536",
        );
        issues.require(
            (Duration::from_millis(50)..=Duration::from_secs(600)).contains(&raw.deadline),
            "hsm.deadline",
            "must be 50ms to 10min",
        );
        issues.require(
            (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&raw.probe_interval),
            "hsm.probe_interval",
            "must be 100ms to 1h",
        );
        let mut tokens = BTreeMap::new();
        for (name, token) in raw.tokens {
            if let Some(token) = issues.collect(token_config(&name, token)) {
                tokens.insert(name, token);
            }
        }
        issues.into_result(Some(Self {
            module: raw.module,
            environment: raw.environment,
            workers: raw.workers,
            queue: raw.queue,
            deadline: raw.deadline,
            probe_interval: raw.probe_interval,
            tokens,
        }))
    }
}

fn token_config(name: &str, raw: RawTokenConfig) -> Result<TokenConfig, ConfigIssues> {
    let table = format!("hsm.tokens.{name}");
    let at = |key: &str| format!("{table}.{key}");
    let mut issues = ConfigIssues::default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    issues.require(
        !name.is_empty() && name.bytes().all(plain),
        &table,
        "a token's name has letters, digits, - and _ only",
    );
    issues.require(
        raw.label.is_some() || raw.serial.is_some(),
        &table,
        "give the token's label, its serial, or both",
    );
    // CK_TOKEN_INFO holds 32 and 16 bytes, padded with blanks.
    let fits = |text: &Option<String>, most: usize| {
        text.as_ref()
            .is_none_or(|t| (1..=most).contains(&t.len()) && !t.ends_with(' '))
    };
    issues.require(
        fits(&raw.label, 32),
        at("label"),
        "must be 1 to 32 bytes, with no space at the end",
    );
    issues.require(
        fits(&raw.serial, 16),
        at("serial"),
        "must be 1 to 16 bytes, with no space at the end",
    );
    let pin = match (raw.pin_file, raw.pin_env) {
        (Some(file), None) if file.as_os_str().is_empty() => {
            Err(ConfigIssue::new(at("pin_file"), "must name a file"))
        }
        (Some(file), None) => Ok(PinSource::File(file)),
        (None, Some(variable)) if !is_variable_name(&variable) => {
            Err(ConfigIssue::new(at("pin_env"), "is not a variable's name"))
        }
        (None, Some(variable)) => Ok(PinSource::Env(variable)),
        _ => Err(ConfigIssue::new(
            &table,
            "give exactly one of pin_file and pin_env",
        )),
    };
    let pin = issues.collect(pin);
    issues.into_result(pin.map(|pin| TokenConfig {
        label: raw.label,
        serial: raw.serial,
        pin,
        allow_unattested_keys: raw.allow_unattested_keys,
        final_try: false,
    }))
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        Config::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_and_a_token_by_label() {
        let config = parse(
            "module = '/m.so'\nenvironment = { RB_TEST_NOT_SET = 'x' }\n[tokens.main]\nlabel = 'a'\npin_env = 'P'",
        )
        .unwrap();
        assert_eq!(
            (config.workers(), config.queue(), config.deadline()),
            (2, 256, Duration::from_secs(5))
        );
        assert_eq!(config.token("main").unwrap().label(), Some("a"));
        assert_eq!(config.missing_environment(), [("RB_TEST_NOT_SET", "x")]);
    }

    #[test]
    fn each_bad_value_is_named() {
        let token = "[tokens.main]\nlabel = 'a'\n";
        let environment = |text: &str| format!("module = '/m'\nenvironment = {{ {text} }}");
        for (text, says) in [
            (
                "module = 'm.so'".into(),
                "hsm.module: give the module's absolute path",
            ),
            (
                "module = '/m'\nworkers = 0".into(),
                "hsm.workers: must be 1 to 256",
            ),
            ("module = '/m'\nqueue = 0".into(), "hsm.queue"),
            ("module = '/m'\ndeadline = '0s'".into(), "hsm.deadline"),
            (
                "module = '/m'\nprobe_interval = '1d'".into(),
                "hsm.probe_interval",
            ),
            (
                "module = '/m'\nwrokers = 1".into(),
                "unknown field `wrokers`",
            ),
            (
                format!("module = '/m'\n{token}"),
                "hsm.tokens.main: give exactly one of pin_file and pin_env",
            ),
            (
                format!("module = '/m'\n{token}pin_file = '/p'\npin_env = 'P'"),
                "exactly one",
            ),
            (
                format!("module = '/m'\n{token}pin = '1234'"),
                "unknown field `pin`",
            ),
            (
                format!("module = '/m'\n{token}pin_env = ''"),
                "hsm.tokens.main.pin_env: is not a variable's name",
            ),
            (
                format!("module = '/m'\n{token}pin_file = ''"),
                "hsm.tokens.main.pin_file: must name a file",
            ),
            (
                environment("'A=B' = 'x'"),
                "\"A=B\" is not a variable's name",
            ),
            (
                environment("A = \"\\u0000\""),
                "the value of \"A\" holds a NUL",
            ),
            (
                "module = '/m'\n[tokens.main]\npin_env = 'P'".into(),
                "give the token's label, its serial, or both",
            ),
            (
                "module = '/m'\n[tokens.'a b']\nlabel='x'\npin_env = 'P'".into(),
                "letters, digits",
            ),
            (
                "module = '/m'\n[tokens.a]\nlabel='x '\npin_env = 'P'".into(),
                "hsm.tokens.a.label",
            ),
            (
                "module = '/m'\n[tokens.a]\nserial='12345678901234567'\npin_env = 'P'".into(),
                "hsm.tokens.a.serial",
            ),
        ] as [(String, &str); 17]
        {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
