//! `[hsm]`: the module, its tokens, their workers and time limits.

mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::ConfigIssues;

pub use token::{RawTokenConfig, TokenConfig};

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
    /// End the process when every worker of a token hangs in the module, so that its supervisor starts it
    /// again.
    #[serde(default)]
    pub exit_when_stuck: bool,
    /// The tokens, by the names that the ledger records.
    #[serde(default)]
    pub tokens: BTreeMap<String, RawTokenConfig>,
}

const fn default_workers() -> usize {
    2
}

/// The default of `queue`.
pub const DEFAULT_QUEUE: usize = 2048;

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
    exit_when_stuck: bool,
    tokens: BTreeMap<String, TokenConfig>,
    state_directory: Option<PathBuf>,
}

impl Config {
    /// Of a module alone, without tokens.
    ///
    /// # Errors
    /// When the path is not absolute.
    pub fn of_module(module: &Path) -> Result<Self, ConfigIssues> {
        RawConfig {
            module: module.to_owned(),
            environment: BTreeMap::new(),
            workers: default_workers(),
            queue: default_queue(),
            deadline: default_deadline(),
            probe_interval: default_probe_interval(),
            exit_when_stuck: false,
            tokens: BTreeMap::new(),
        }
        .try_into()
    }

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

    /// Whether the process ends when every worker of a token hangs in the module.
    pub fn exit_when_stuck(&self) -> bool {
        self.exit_when_stuck
    }

    pub fn token_names(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    pub fn token(&self, name: &str) -> Option<&TokenConfig> {
        self.tokens.get(name)
    }

    /// The modules of all tokens, each once, and `hsm.module` first.
    pub fn modules(&self) -> Vec<&Path> {
        let mut modules = vec![self.module()];
        for token in self.tokens.values() {
            if !modules.contains(&token.module()) {
                modules.push(token.module());
            }
        }
        modules
    }

    /// The other tokens that hold the keys of this one: those that it names, and those that name it.
    pub fn same_keys(&self, name: &str) -> Vec<&str> {
        let named = |by: &str, token: &str| {
            let by = self.tokens.get(by);
            by.is_some_and(|by| by.same_keys_in.iter().any(|other| other == token))
        };
        let others = self.token_names().filter(|other| *other != name);
        others
            .filter(|other| named(name, other) || named(other, name))
            .collect()
    }

    /// Where it is remembered, for other processes and the next start, that a token refused a PIN.
    pub fn state_directory(&self) -> Option<&Path> {
        self.state_directory.as_deref()
    }

    /// Sets what [`Self::state_directory`] says.
    pub fn with_state_directory(mut self, directory: &Path) -> Self {
        self.state_directory = Some(directory.to_owned());
        self
    }

    /// Allows one login although a wrong PIN would lock the token (`--final-try`).
    pub fn allow_final_try(&mut self) {
        for token in self.tokens.values_mut() {
            token.final_try = true;
        }
    }

    /// `hsm.environment`.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.environment.iter();
        variables.map(|(name, value)| (name.as_str(), value.as_str()))
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
                token::is_variable_name(name),
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
            if let Some(token) = issues.collect(token::token_config(&name, token, &raw.module)) {
                tokens.insert(name, token);
            }
        }
        for (name, token) in &tokens {
            for other in &token.same_keys_in {
                issues.require(
                    other != name && tokens.contains_key(other),
                    format!("hsm.tokens.{name}.same_keys_in"),
                    format_args!("{other:?} is not another token of [hsm.tokens]"),
                );
            }
        }
        issues.into_result(Some(Self {
            module: raw.module,
            environment: raw.environment,
            workers: raw.workers,
            queue: raw.queue,
            deadline: raw.deadline,
            probe_interval: raw.probe_interval,
            exit_when_stuck: raw.exit_when_stuck,
            tokens,
            state_directory: None,
        }))
    }
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
            (2, DEFAULT_QUEUE, Duration::from_secs(5))
        );
        assert_eq!(config.token("main").unwrap().label(), Some("a"));
        assert_eq!(config.missing_environment(), [("RB_TEST_NOT_SET", "x")]);
    }

    #[test]
    fn tokens_with_the_same_keys_know_each_other_and_their_modules() {
        let token = |name: &str, more: &str| {
            format!("[tokens.{name}]\nlabel = 'x'\npin_env = 'P'\n{more}\n")
        };
        let config = [
            "module = '/m.so'\n".to_owned(),
            token("a", "same_keys_in = ['b']"),
            token("b", "module = '/n.so'"),
            token("c", ""),
        ];
        let config = parse(&config.concat()).unwrap();
        assert_eq!(config.same_keys("a"), ["b"]);
        assert_eq!(config.same_keys("b"), ["a"]);
        assert_eq!(config.same_keys("c"), [] as [&str; 0]);
        assert_eq!(config.modules(), [Path::new("/m.so"), Path::new("/n.so")]);
        let refused =
            |more: &str| parse(&format!("module = '/m.so'\n{}", token("a", more))).unwrap_err();
        for (more, says) in [
            (
                "same_keys_in = ['b']",
                "hsm.tokens.a.same_keys_in: \"b\" is not another token",
            ),
            (
                "same_keys_in = ['a']",
                "hsm.tokens.a.same_keys_in: \"a\" is not another token",
            ),
            (
                "module = 'n.so'",
                "hsm.tokens.a.module: give the module's absolute path",
            ),
        ] {
            let error = refused(more);
            assert!(error.contains(says), "{more}: {error}");
        }
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
