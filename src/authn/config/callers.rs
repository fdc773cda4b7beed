//! A listener's keys that select its verifiers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, require_between, trust_domain};
use crate::config_issue::{ConfigIssue, ConfigIssues};
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
    /// Off when absent.
    pub client_certificates: Option<RawClientCertificates>,
}

/// `client_certificates` of `[listeners.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawClientCertificates {
    /// The trust domains whose certificates are accepted.
    pub trust_domains: Vec<String>,
    /// How long after its last authentication by token a caller may renew by certificate. Default
    /// 30 days.
    #[serde(default, with = "humantime_serde")]
    pub reauthenticate_after: Option<Duration>,
}

/// The verifiers of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    jwt: Vec<String>,
    operators: Vec<String>,
    client_certificates: Option<ClientCertificatesConfig>,
}

/// Which client certificates are accepted, and for how long.
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

    /// `None` when client certificates are not accepted here.
    pub fn client_certificates(&self) -> Option<&ClientCertificatesConfig> {
        self.client_certificates.as_ref()
    }
}

impl ClientCertificatesConfig {
    /// The trust domains whose certificates are accepted.
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
    /// A name that is not configured or is listed twice, and two JWT verifiers for one issuer: one
    /// verifier alone must be responsible for a token.
    pub fn callers(&self, key: &str, raw: RawCallers) -> Result<Callers, ConfigIssues> {
        let at = |name: &str| format!("{key}.{name}");
        let mut issues = ConfigIssues::default();
        let mut issuers = BTreeMap::new();
        for name in &raw.jwt {
            let Some(verifier) = self.jwt().get(name) else {
                issues.push(ConfigIssue::undefined(at("jwt"), "jwt", name));
                continue;
            };
            let issuer = verifier.issuer();
            if let Some(other) = issuers.insert(issuer, name) {
                let problem =
                    format_args!("`{other}` and `{name}` are both for the issuer {issuer}");
                issues.push(ConfigIssue::new(at("jwt"), problem));
            }
        }
        for (index, name) in raw.operators.iter().enumerate() {
            if !self.operators().contains_key(name) {
                issues.push(ConfigIssue::undefined(at("operators"), "operators", name));
            }
            let mut earlier = raw.operators.iter().take(index);
            issues.require(
                !earlier.any(|other| other == name),
                at("operators"),
                format_args!("`{name}` is listed twice"),
            );
        }
        let client_certificates = raw
            .client_certificates
            .map(|raw| ClientCertificatesConfig::from_raw(&at("client_certificates"), raw))
            .transpose();
        let client_certificates = issues.collect(client_certificates);
        issues.into_result(client_certificates.map(|client_certificates| Callers {
            jwt: raw.jwt,
            operators: raw.operators,
            client_certificates,
        }))
    }
}

impl ClientCertificatesConfig {
    fn from_raw(key: &str, raw: RawClientCertificates) -> Result<Self, ConfigIssues> {
        let domains = format!("{key}.trust_domains");
        let mut issues = ConfigIssues::default();
        issues.require(
            !raw.trust_domains.is_empty(),
            &domains,
            "must name at least one trust domain",
        );
        let mut trust_domains = Vec::with_capacity(raw.trust_domains.len());
        for text in &raw.trust_domains {
            trust_domains.extend(issues.collect(trust_domain(domains.clone(), text)));
        }
        let reauthenticate_after = issues.collect(require_between(
            format!("{key}.reauthenticate_after"),
            raw.reauthenticate_after.unwrap_or(30 * DAY),
            Duration::from_secs(60),
            3650 * DAY,
        ));
        issues.into_result(reauthenticate_after.map(|reauthenticate_after| Self {
            trust_domains,
            reauthenticate_after,
        }))
    }
}
