//! `[instance]` and `[ledger]`: sections that belong to no single module.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[instance]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawInstance {
    /// Distinguishes this server from others on the same ledger. Default: the host's name.
    pub name: Option<String>,
    /// How long after its last heartbeat no other server concludes the ledger's records of the
    /// issuances that this one began. Default 30s.
    #[serde(with = "humantime_serde")]
    pub lease: Option<Duration>,
    /// MiB of memory that this process may use. A warning says when the limits allow more. Default:
    /// not compared.
    pub memory_mib: Option<u64>,
}

/// `[ledger]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLedger {
    /// The SQLite file with the record of every certificate.
    pub path: PathBuf,
    /// The directory of the mark by which a server knows at its start whether the ledger is the newest.
    /// Default: `high-water` beside the ledger; another disk, or what backups leave out, shows more.
    pub high_water_directory: Option<PathBuf>,
}

/// A checked `[instance]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
    lease: Duration,
    memory_mib: Option<u64>,
}

impl Instance {
    /// The name under which this server records in the ledger what it is about to sign.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long after the last heartbeat of this server another one may conclude the ledger's
    /// records of the issuances that it began.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// MiB of memory that this process may use, if that is stated.
    pub fn memory_mib(&self) -> Option<u64> {
        self.memory_mib
    }
}

impl TryFrom<RawInstance> for Instance {
    type Error = ConfigIssues;

    fn try_from(raw: RawInstance) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let host = || {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        };
        let name = raw.name.unwrap_or_else(host);
        issues.require(
            (1..=253).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c == ' '),
            "instance.name",
            "write 1 to 253 characters without blanks, such as rootbridge-0",
        );
        let lease = raw.lease.unwrap_or(Duration::from_secs(30));
        issues.require(
            (Duration::from_secs(5)..=Duration::from_secs(3600)).contains(&lease),
            "instance.lease",
            "must be 5s to 1h",
        );
        issues.into_result(Some(Self {
            name,
            lease,
            memory_mib: raw.memory_mib,
        }))
    }
}

/// A checked `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    path: PathBuf,
    high_water_directory: PathBuf,
}

impl LedgerConfig {
    /// The SQLite file with the record of every certificate.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the mark that says how far the ledger has come.
    pub fn high_water_directory(&self) -> &Path {
        &self.high_water_directory
    }
}

impl TryFrom<RawLedger> for LedgerConfig {
    type Error = ConfigIssues;

    fn try_from(raw: RawLedger) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        if !raw.path.is_absolute() {
            issues.push(
                ConfigIssue::new("ledger.path", "is not absolute")
                    .with_fix("write a path such as /var/lib/rootbridge/ledger.db"),
            );
        }
        let directory = raw
            .high_water_directory
            .unwrap_or_else(|| raw.path.with_file_name("high-water"));
        if raw.path.is_absolute() && !directory.is_absolute() {
            issues.push(
                ConfigIssue::new("ledger.high_water_directory", "is not absolute")
                    .with_fix("write a path such as /var/lib/rootbridge-mark"),
            );
        }
        issues.into_result(Some(Self {
            path: raw.path,
            high_water_directory: directory,
        }))
    }
}
