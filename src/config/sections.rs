//! `[instance]` and `[ledger]`: sections that belong to no single module.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::ledger::{LedgerStore, PasswordSource, PostgresConfig};

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
    /// The SQLite file with the record of every certificate; `url` instead names a database.
    #[serde(default)]
    pub path: PathBuf,
    /// A PostgreSQL database that several servers share: `postgres://USER@HOST[,HOST]/DATABASE`, with
    /// `sslrootcert`, `sslcert` and `sslkey` as parameters.
    pub url: Option<String>,
    /// The file with the database user's password, read with each connection.
    pub password_file: Option<PathBuf>,
    /// The environment variable with the password, instead of a file.
    pub password_env: Option<String>,
    /// The directory of the mark by which a server knows at its start whether the ledger is the newest.
    /// Default: `high-water` beside the ledger; another disk, or what backups leave out, shows more.
    /// Required with `url`.
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
    store: LedgerStore,
    high_water_directory: PathBuf,
}

impl LedgerConfig {
    /// The file or database with the record of every certificate.
    pub fn store(&self) -> &LedgerStore {
        &self.store
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
        let has_path = !raw.path.as_os_str().is_empty();
        let password = password(&raw, &mut issues);
        let store = match &raw.url {
            Some(url) => {
                issues.require(
                    !has_path,
                    "ledger.url",
                    "give either ledger.path or ledger.url",
                );
                match PostgresConfig::parse(url, password) {
                    Ok(settings) => Some(LedgerStore::Postgres(Box::new(settings))),
                    Err(problem) => {
                        issues.push(ConfigIssue::new("ledger.url", problem));
                        None
                    }
                }
            }
            None => file(&raw.path, &mut issues),
        };
        let directory = raw
            .high_water_directory
            .or_else(|| has_path.then(|| raw.path.with_file_name("high-water")));
        match &directory {
            None if raw.url.is_some() => issues.push(
                ConfigIssue::new("ledger.high_water_directory", "is missing").with_fix(
                    "a database has no directory beside it: write a path on a disk that is kept",
                ),
            ),
            Some(directory) if store.is_some() && !directory.is_absolute() => issues.push(
                ConfigIssue::new("ledger.high_water_directory", "is not absolute")
                    .with_fix("write a path such as /var/lib/rootbridge-mark"),
            ),
            _ => {}
        }
        let config = store
            .zip(directory)
            .map(|(store, high_water_directory)| Self {
                store,
                high_water_directory,
            });
        issues.into_result(config)
    }
}

fn file(path: &Path, issues: &mut ConfigIssues) -> Option<LedgerStore> {
    if path.as_os_str().is_empty() {
        issues.push(
            ConfigIssue::new("ledger.path", "is missing")
                .with_fix("write the file's path, or ledger.url for PostgreSQL"),
        );
        return None;
    }
    if !path.is_absolute() {
        issues.push(
            ConfigIssue::new("ledger.path", "is not absolute")
                .with_fix("write a path such as /var/lib/rootbridge/ledger.db"),
        );
        return None;
    }
    Some(LedgerStore::Sqlite(path.to_owned()))
}

fn password(raw: &RawLedger, issues: &mut ConfigIssues) -> Option<PasswordSource> {
    issues.require(
        raw.password_file.is_none() || raw.password_env.is_none(),
        "ledger.password_file",
        "give at most one of password_file and password_env",
    );
    if let Some(path) = &raw.password_file {
        issues.require(
            path.is_absolute(),
            "ledger.password_file",
            "is not an absolute path",
        );
    }
    issues.require(
        raw.url.is_some() || (raw.password_file.is_none() && raw.password_env.is_none()),
        "ledger.password_file",
        "is of no use without ledger.url",
    );
    let file = raw.password_file.clone().map(PasswordSource::File);
    file.or_else(|| raw.password_env.clone().map(PasswordSource::Env))
}
