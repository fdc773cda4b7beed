//! `[agent]`: which server to follow, and as whom.

use std::path::{Path, PathBuf};

use http::Uri;
use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::TrustDomain;

/// `[agent]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAgent {
    /// The server, `https://HOST:PORT`.
    pub server: String,
    /// Roots that the server is verified with as long as there is no bundle, PEM.
    pub ca_file: PathBuf,
    pub trust_domain: String,
    /// The bundle that was applied last is kept there.
    pub state_file: PathBuf,
    /// A service account's token, or another JWT. It is read for each call.
    pub token_file: Option<PathBuf>,
    /// Instead of a token: a TLS client certificate with its path, PEM. It is read for each connection.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Tells agents with the same credential apart. Default `agent`.
    pub instance: Option<String>,
}

/// A checked `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    server: String,
    ca_file: PathBuf,
    trust_domain: TrustDomain,
    state_file: PathBuf,
    credential: AgentCredential,
    instance: String,
}

/// As whom an agent reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentCredential {
    Token(PathBuf),
    Certificate { certificate: PathBuf, key: PathBuf },
}

impl AgentConfig {
    /// `https://HOST:PORT`.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn state_file(&self) -> &Path {
        &self.state_file
    }

    pub fn credential(&self) -> &AgentCredential {
        &self.credential
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl TryFrom<RawAgent> for AgentConfig {
    type Error = ConfigIssues;

    fn try_from(raw: RawAgent) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let uri = raw.server.parse::<Uri>().ok();
        let is_https = uri.is_some_and(|uri| {
            uri.scheme_str() == Some("https") && uri.host().is_some() && uri.path() == "/"
        });
        issues.require(is_https, "agent.server", "must be https://HOST:PORT");
        let trust_domain = TrustDomain::parse(&raw.trust_domain)
            .map_err(|error| ConfigIssue::new("agent.trust_domain", error));
        let trust_domain = issues.collect(trust_domain);
        let credential = match (raw.token_file, raw.certificate_file, raw.key_file) {
            (Some(token), None, None) => Some(AgentCredential::Token(token)),
            (None, Some(certificate), Some(key)) => {
                Some(AgentCredential::Certificate { certificate, key })
            }
            _ => {
                let problem = "one credential is needed";
                let fix = "write token_file, or certificate_file with key_file";
                issues.push(ConfigIssue::new("agent.token_file", problem).with_fix(fix));
                None
            }
        };
        let instance = raw.instance.unwrap_or_else(|| "agent".to_owned());
        issues.require(
            (1..=128).contains(&instance.len()) && instance.bytes().all(|b| b.is_ascii_graphic()),
            "agent.instance",
            "must be 1 to 128 visible ASCII characters",
        );
        let config = || {
            Some(Self {
                server: raw.server,
                ca_file: raw.ca_file,
                trust_domain: trust_domain?,
                state_file: raw.state_file,
                credential: credential?,
                instance,
            })
        };
        issues.into_result(config())
    }
}
