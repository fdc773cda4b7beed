//! `[instance]` and `[ledger]`: what belongs to the process and to no room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// `[instance]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawInstance {
    /// This server among others on the same ledger. Default: the host's name.
    pub name: Option<String>,
    /// How long what this server left open is its own to judge. Default 30s.
    #[serde(with = "humantime_serde")]
    pub lease: Option<Duration>,
}

/// `[ledger]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLedger {
    /// The SQLite file.
    pub path: PathBuf,
}

/// A value that cannot be used; begins with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct SectionError {
    key: &'static str,
    why: &'static str,
}

/// A checked `[instance]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
    lease: Duration,
}

impl Instance {
    /// The name under which intents are recorded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long after its last sign of life another server may judge what this one left open.
    pub fn lease(&self) -> Duration {
        self.lease
    }
}

impl TryFrom<RawInstance> for Instance {
    type Error = SectionError;

    fn try_from(raw: RawInstance) -> Result<Self, SectionError> {
        let host = || {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        };
        let name = raw.name.unwrap_or_else(host);
        if name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_control() || c == ' ') {
            let why = "write 1 to 253 characters without blanks, such as rootbridge-0";
            return Err(SectionError {
                key: "instance.name",
                why,
            });
        }
        let lease = raw.lease.unwrap_or(Duration::from_secs(30));
        if !(Duration::from_secs(5)..=Duration::from_secs(3600)).contains(&lease) {
            return Err(SectionError {
                key: "instance.lease",
                why: "must be 5s to 1h",
            });
        }
        Ok(Self { name, lease })
    }
}

/// A checked `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    path: PathBuf,
}

impl LedgerConfig {
    /// The SQLite file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl TryFrom<RawLedger> for LedgerConfig {
    type Error = SectionError;

    fn try_from(raw: RawLedger) -> Result<Self, SectionError> {
        if !raw.path.is_absolute() {
            let why = "is not absolute; write a path such as /var/lib/rootbridge/ledger.db";
            return Err(SectionError {
                key: "ledger.path",
                why,
            });
        }
        Ok(Self { path: raw.path })
    }
}
