//! A listener's keys that say which of those who may vouch do so there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, trust_domain, within};
use crate::authn::error::ConfigError;
use crate::x509::TrustDomain;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys `jwt`, `operators` and `client_certificates` of `[listeners.NAME]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCallers {
    /// Names of `[jwt.NAME]`.
    #[serde(default)]
    pub jwt: Vec<String>,
    /// Names of `[operators.NAME]`.
    #[serde(default)]
    pub operators: Vec<String>,
    /// TLS client certificates; off when absent.
    pub client_certificates: Option<RawClientCertificates>,
}

/// `client_certificates` of `[listeners.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawClientCertificates {
    /// The trust domains whose certificates count.
    pub trust_domains: Vec<String>,
    /// How long after its last authentication by token a caller may renew by certificate; default
    /// 30 days.
    #[serde(default, with = "humantime_serde")]
    pub reauthenticate_after: Option<Duration>,
}

/// Who may vouch on one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    jwt: Vec<String>,
    operators: Vec<String>,
    client_certificates: Option<ClientCertificatesConfig>,
}

/// Which client certificates count, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificatesConfig {
    trust_domains: Vec<TrustDomain>,
    reauthenticate_after: Duration,
}

impl Callers {
    /// The verifiers of JWTs, for [`JwtVerifiers::authenticate`](crate::authn::JwtVerifiers).
    pub fn jwt(&self) -> &[String] {
        &self.jwt
    }

    /// The operators, for [`Operators::authenticate`](crate::authn::Operators).
    pub fn operators(&self) -> &[String] {
        &self.operators
    }

    /// Client certificates; `None` when they do not count here.
    pub fn client_certificates(&self) -> Option<&ClientCertificatesConfig> {
        self.client_certificates.as_ref()
    }
}

impl ClientCertificatesConfig {
    /// The trust domains whose certificates count.
    pub fn trust_domains(&self) -> &[TrustDomain] {
        &self.trust_domains
    }

    /// How long after its last authentication by token a caller may renew by certificate.
    pub fn reauthenticate_after(&self) -> Duration {
        self.reauthenticate_after
    }
}

impl Config {
    /// Checks the callers of the listener whose table is at `key`, such as `listeners.mesh`.
    ///
    /// # Errors
    /// A name that is not configured or stands twice, and two JWT verifiers for one issuer:
    /// which of them judges a token must never be a question.
    pub fn callers(&self, key: &str, raw: RawCallers) -> Result<Callers, ConfigError> {
        let at = |name: &str| format!("{key}.{name}");
        let mut issuers = BTreeMap::new();
        for name in &raw.jwt {
            let verifier = self.jwt().get(name).ok_or_else(|| {
                ConfigError::new(at("jwt"), format_args!("there is no [jwt.{name}]"))
            })?;
            if let Some(other) = issuers.insert(verifier.issuer(), name) {
                return Err(ConfigError::new(
                    at("jwt"),
                    format_args!(
                        "`{other}` and `{name}` are both for the issuer {}",
                        verifier.issuer()
                    ),
                ));
            }
        }
        for (index, name) in raw.operators.iter().enumerate() {
            if !self.operators().contains_key(name) {
                return Err(ConfigError::new(
                    at("operators"),
                    format_args!("there is no [operators.{name}]"),
                ));
            }
            if raw
                .operators
                .iter()
                .take(index)
                .any(|before| before == name)
            {
                return Err(ConfigError::new(
                    at("operators"),
                    format_args!("`{name}` stands twice"),
                ));
            }
        }
        let client_certificates = raw
            .client_certificates
            .map(|raw| ClientCertificatesConfig::from_raw(&at("client_certificates"), raw))
            .transpose()?;
        Ok(Callers {
            jwt: raw.jwt,
            operators: raw.operators,
            client_certificates,
        })
    }
}

impl ClientCertificatesConfig {
    fn from_raw(key: &str, raw: RawClientCertificates) -> Result<Self, ConfigError> {
        let domains = format!("{key}.trust_domains");
        if raw.trust_domains.is_empty() {
            return Err(ConfigError::new(
                domains,
                "must name at least one trust domain",
            ));
        }
        let trust_domains = raw
            .trust_domains
            .iter()
            .map(|each| trust_domain(domains.clone(), each))
            .collect::<Result<_, _>>()?;
        let reauthenticate_after = within(
            format!("{key}.reauthenticate_after"),
            raw.reauthenticate_after.unwrap_or(30 * DAY),
            Duration::from_secs(60),
            3650 * DAY,
        )?;
        Ok(Self {
            trust_domains,
            reauthenticate_after,
        })
    }
}
