//! What the configuration says about callers: `[jwt.NAME]`, `[operators.NAME]` and a listener's
//! own keys. Raw structs mirror the file; the others can only hold what was checked.

mod callers;
mod jwt;

pub use callers::{Callers, ClientCertificatesConfig, RawCallers, RawClientCertificates};
pub use jwt::{JwtConfig, RawAudiences, RawJwtConfig, SubjectForm};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::error::ConfigError;
use crate::x509::TrustDomain;

/// The tables of the file that say who may vouch for callers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// `[jwt.NAME]`
    #[serde(default)]
    pub jwt: BTreeMap<String, RawJwtConfig>,
    /// `[operators.NAME]`
    #[serde(default)]
    pub operators: BTreeMap<String, RawOperatorConfig>,
}

/// `[operators.NAME]` as it stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOperatorConfig {
    /// The trust domain that the operator works in.
    pub trust_domain: String,
    /// The file with the credential.
    pub credential_file: PathBuf,
}

/// Everyone who may vouch, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    jwt: BTreeMap<String, JwtConfig>,
    operators: BTreeMap<String, OperatorConfig>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    trust_domain: TrustDomain,
    credential_file: PathBuf,
}

impl Config {
    /// The verifiers of JWTs.
    pub fn jwt(&self) -> &BTreeMap<String, JwtConfig> {
        &self.jwt
    }

    /// The operators.
    pub fn operators(&self) -> &BTreeMap<String, OperatorConfig> {
        &self.operators
    }
}

impl OperatorConfig {
    /// The trust domain that the operator works in.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The file with the credential.
    pub fn credential_file(&self) -> &Path {
        &self.credential_file
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (name, verifier) in raw.jwt {
            let key = format!("jwt.{name}");
            check_name(&key, &name)?;
            config
                .jwt
                .insert(name, JwtConfig::from_raw(&key, verifier)?);
        }
        for (name, operator) in raw.operators {
            let key = format!("operators.{name}");
            check_name(&key, &name)?;
            let trust_domain = trust_domain(format!("{key}.trust_domain"), &operator.trust_domain)?;
            let credential_file = file(format!("{key}.credential_file"), operator.credential_file)?;
            config.operators.insert(
                name,
                OperatorConfig {
                    trust_domain,
                    credential_file,
                },
            );
        }
        Ok(config)
    }
}

/// Names appear in identities, rules and logs, between colons.
fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        return Err(ConfigError::new(
            key,
            "a name must be 1 to 63 lower-case letters, digits, `-` or `_`",
        ));
    }
    Ok(())
}

fn trust_domain(key: String, text: &str) -> Result<TrustDomain, ConfigError> {
    TrustDomain::parse(text).map_err(|why| ConfigError::new(key, why))
}

fn file(key: String, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() {
        return Err(ConfigError::new(key, "must name a file"));
    }
    Ok(path)
}

fn within(
    key: String,
    span: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigError> {
    if span < least || span > most {
        let (least, most) = (
            humantime::format_duration(least),
            humantime::format_duration(most),
        );
        return Err(ConfigError::new(
            key,
            format_args!("must be between {least} and {most}"),
        ));
    }
    Ok(span)
}
