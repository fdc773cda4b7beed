//! `[admin]`: the listener for health, metrics and operators.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[admin]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// IP address and port. Default `127.0.0.1:9901`.
    pub address: String,
    /// The `[operators.*]` whose credentials are accepted here. Default: none.
    pub operators: Vec<String>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9901".to_owned(),
            operators: Vec::new(),
        }
    }
}

/// A checked `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    address: SocketAddr,
    operators: Vec<String>,
}

impl Config {
    /// The address, without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operators whose credentials are accepted.
    pub fn operators(&self) -> &[String] {
        &self.operators
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let address: SocketAddr = raw.address.parse().map_err(|_| {
            let problem = format_args!("`{}` is not an IP address and port", raw.address);
            ConfigIssue::new("admin.address", problem).with_fix("write 127.0.0.1:9901")
        })?;
        // This port has no TLS: credentials sent to it from another host could be read on the wire.
        if !raw.operators.is_empty() && !address.ip().is_loopback() {
            let problem =
                format_args!("credentials would cross the network in plaintext to {address}");
            let fix = "write a loopback address, or leave `operators` out (probes and metrics need none): a \
                       listener with apis = [\"admin\"] takes credentials over TLS";
            return Err(ConfigIssue::new("admin.operators", problem)
                .with_fix(fix)
                .into());
        }
        Ok(Self {
            address,
            operators: raw.operators,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credentials_stay_on_loopback() {
        let raw = |address: &str, operators: &[&str]| RawConfig {
            address: address.to_owned(),
            operators: operators.iter().map(ToString::to_string).collect(),
        };
        assert!(Config::try_from(raw("127.0.0.1:9901", &["admin"])).is_ok());
        assert!(Config::try_from(raw("0.0.0.0:9901", &[])).is_ok());
        let error = Config::try_from(raw("0.0.0.0:9901", &["admin"])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("admin.operators: credentials")
        );
        let error = Config::try_from(raw("nowhere", &[])).unwrap_err();
        assert!(error.to_string().starts_with("admin.address: `nowhere`"));
    }
}
