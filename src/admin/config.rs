//! `[admin]`: where health, metrics and operators' pages are.

use std::net::SocketAddr;

use serde::Deserialize;

/// `[admin]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// IP address and port. Default `127.0.0.1:9901`.
    pub address: String,
    /// The `[operators.*]` whose credentials open what is not public. Default: none.
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

/// A value of `[admin]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("admin.{key}: {why}")]
pub struct ConfigError {
    key: &'static str,
    why: String,
}

/// A checked `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    address: SocketAddr,
    operators: Vec<String>,
}

impl Config {
    /// Where it listens, without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names of the operators whose credentials count here.
    pub fn operators(&self) -> &[String] {
        &self.operators
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let address: SocketAddr = raw.address.parse().map_err(|_| ConfigError {
            key: "address",
            why: format!(
                "`{}` is not an IP address and port; write 127.0.0.1:9901",
                raw.address
            ),
        })?;
        // This port has no TLS: a credential sent to it from elsewhere could be read on the way.
        if !raw.operators.is_empty() && !address.ip().is_loopback() {
            return Err(ConfigError {
                key: "operators",
                why: format!(
                    "credentials would cross the network in the clear to {address}; write a \
                     loopback address, or leave `operators` out (probes and metrics need none)"
                ),
            });
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
