//! Configuration of callers: `[jwt.NAME]`, `[operators.NAME]` and a listener's own keys. Structs
//! named `Raw…` hold the file's values unchecked; the others hold only valid values.

mod callers;
mod jwt;

pub use callers::{Callers, ClientCertificatesConfig, RawCallers, RawClientCertificates};
pub use jwt::{JwtConfig, RawAudiences, RawJwtConfig, SubjectForm};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::clock::in_words;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::TrustDomain;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    #[serde(default)]
    pub jwt: BTreeMap<String, RawJwtConfig>,
    #[serde(default)]
    pub operators: BTreeMap<String, RawOperatorConfig>,
}

/// `[operators.NAME]` of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOperatorConfig {
    pub trust_domain: String,
    pub credential_file: PathBuf,
}

/// JWT verifiers and operators, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    jwt: BTreeMap<String, JwtConfig>,
    operators: BTreeMap<String, OperatorConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    trust_domain: TrustDomain,
    credential_file: PathBuf,
}

impl Config {
    pub fn jwt(&self) -> &BTreeMap<String, JwtConfig> {
        &self.jwt
    }

    pub fn operators(&self) -> &BTreeMap<String, OperatorConfig> {
        &self.operators
    }
}

impl OperatorConfig {
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn credential_file(&self) -> &Path {
        &self.credential_file
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let config = Self::check(raw, &mut issues);
        issues.into_result(Some(config))
    }
}

impl Config {
    /// The valid verifiers and operators; what is wrong with the others is added to `issues`.
    pub fn check(raw: RawConfig, issues: &mut ConfigIssues) -> Self {
        let mut config = Self::default();
        for (name, verifier) in raw.jwt {
            let key = format!("jwt.{name}");
            require_name(issues, &key, &name);
            if let Some(verifier) = issues.collect(JwtConfig::from_raw(&key, verifier)) {
                config.jwt.insert(name, verifier);
            }
        }
        for (name, operator) in raw.operators {
            let key = format!("operators.{name}");
            require_name(issues, &key, &name);
            let trust_domain = trust_domain(format!("{key}.trust_domain"), &operator.trust_domain);
            let file = file(format!("{key}.credential_file"), operator.credential_file);
            if let (Some(trust_domain), Some(credential_file)) =
                (issues.collect(trust_domain), issues.collect(file))
            {
                let operator = OperatorConfig {
                    trust_domain,
                    credential_file,
                };
                config.operators.insert(name, operator);
            }
        }
        config
    }
}

/// Names are parts of identities such as `operator:NAME`, which are split at colons.
fn require_name(issues: &mut ConfigIssues, key: &str, name: &str) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    issues.require(
        (1..=63).contains(&name.len()) && name.chars().all(plain),
        key,
        "a name must be 1 to 63 lower-case letters, digits, `-` or `_`",
    );
}

fn trust_domain(key: String, text: &str) -> Result<TrustDomain, ConfigIssue> {
    TrustDomain::parse(text).map_err(|error| ConfigIssue::new(key, error))
}

fn file(key: String, path: PathBuf) -> Result<PathBuf, ConfigIssue> {
    match path.as_os_str().is_empty() {
        true => Err(ConfigIssue::new(key, "must name a file")),
        false => Ok(path),
    }
}

/// `span`, if it is between `least` and `most`.
fn require_between(
    key: String,
    span: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigIssue> {
    if (least..=most).contains(&span) {
        return Ok(span);
    }
    let [least, most] = [least, most].map(in_words);
    let problem = format_args!("must be between {least} and {most}");
    Err(ConfigIssue::new(key, problem))
}
