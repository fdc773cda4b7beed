//! `[ledger] url`: where the database is, and how it is reached.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

use crate::file_access::denied;
use crate::ledger::LedgerError;

/// How long opening a connection to one server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may leave what was sent unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A checked URL, with where the password is.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    config: tokio_postgres::Config,
    tls: Option<TlsFiles>,
    password: Option<PasswordSource>,
    name: String,
}

/// Files are read again with each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// PEM; `None` for the roots of the operating system.
    pub(super) roots: Option<PathBuf>,
    /// Certificate chain and key, PEM.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Where the password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresConfig").field(&self.name).finish()
    }
}

impl PostgresConfig {
    /// Checks a URL as libpq reads it, of which it takes several hosts, `sslmode` (`verify-full`, the
    /// default, or `disable`), `sslrootcert`, `sslcert` and `sslkey`.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead; never a part that may be a password.
    pub fn parse(url: &str, password: Option<PasswordSource>) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        if !base.starts_with("postgres://") && !base.starts_with("postgresql://") {
            return Err("is no PostgreSQL URL: write postgres://USER@HOST/DATABASE".to_owned());
        }
        let mut tls = Tls::default();
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || {
                let text = percent_decode_str(value).decode_utf8();
                text.map(|text| text.into_owned())
                    .map_err(|_| format!("has a {key} that is not UTF-8"))
            };
            match key {
                "sslmode" => tls.mode = Some(decoded()?),
                "sslrootcert" => tls.roots = Some(decoded()?),
                "sslcert" => tls.certificate = Some(file(key, decoded()?)?),
                "sslkey" => tls.key = Some(file(key, decoded()?)?),
                "password" => return Err(PASSWORD.to_owned()),
                "target_session_attrs" if value != "read-write" => {
                    return Err(
                        "has target_session_attrs other than read-write: a ledger is written to"
                            .to_owned(),
                    );
                }
                _ => kept.push(pair),
            }
        }
        let stripped = match kept.as_slice() {
            [] => base.to_owned(),
            kept => format!("{base}?{}", kept.join("&")),
        };
        // The error may quote the URL's parts; a wrong escape may be in a password.
        let mut config = tokio_postgres::Config::from_str(&stripped).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("cannot be read{}", cause.unwrap_or_default())
        })?;
        if config.get_password().is_some() {
            return Err(PASSWORD.to_owned());
        }
        if config.get_hosts().is_empty() {
            return Err("names no host".to_owned());
        }
        if config.get_user().is_none() {
            return Err("names no user: write postgres://USER@HOST/DATABASE".to_owned());
        }
        if config.get_dbname().is_none() {
            return Err("names no database: write postgres://USER@HOST/DATABASE".to_owned());
        }
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        config.application_name("rootbridge");
        let tls = tls.check(config.get_hosts())?;
        config.ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        let user = config.get_user().unwrap_or_default();
        let database = config.get_dbname().unwrap_or_default();
        let hosts: Vec<_> = config.get_hosts().iter().map(host_name).collect();
        let name = format!("postgres://{user}@{}/{database}", hosts.join(","));
        Ok(Self {
            config,
            tls,
            password,
            name,
        })
    }

    /// User, hosts and database, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Files that hold a secret, and what it is.
    pub fn secret_files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = Vec::new();
        if let Some(PasswordSource::File(path)) = &self.password {
            files.push(("the database's password", path.as_path()));
        }
        if let Some((_, key)) = self.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            files.push(("the key for the database", key.as_path()));
        }
        files
    }

    pub(super) fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// With the password as it is now.
    pub(super) fn connection(&self) -> Result<tokio_postgres::Config, LedgerError> {
        let mut config = self.config.clone();
        if let Some(source) = &self.password {
            config.password(read(source)?.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }
}

const PASSWORD: &str =
    "holds a password: put it in a file, and write its path as ledger.password_file";

fn host_name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

fn file(key: &str, path: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("has a {key} that is no absolute path"))
    }
}

fn read(source: &PasswordSource) -> Result<Zeroizing<String>, LedgerError> {
    match source {
        PasswordSource::File(path) => {
            std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| {
                    LedgerError::unavailable(format!(
                        "the database's password cannot be read: {}: {error}{}",
                        path.display(),
                        denied(path, &error)
                    ))
                })
        }
        PasswordSource::Env(name) => std::env::var(name).map(Zeroizing::new).map_err(|_| {
            LedgerError::unavailable(format!(
                "the database's password is missing: set the environment variable {name}"
            ))
        }),
    }
}

/// What the URL says of TLS.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    roots: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Tls {
    fn check(self, hosts: &[Host]) -> Result<Option<TlsFiles>, String> {
        let sockets = hosts
            .iter()
            .filter(|host| matches!(host, Host::Unix(_)))
            .count();
        if sockets > 0 && sockets < hosts.len() {
            return Err("mixes sockets and hosts".to_owned());
        }
        let local = sockets > 0 || hosts.iter().all(is_loopback);
        match self.mode.as_deref() {
            None if sockets > 0 => return Ok(None),
            None | Some("verify-full") if sockets == 0 => {}
            Some("disable") if local => return Ok(None),
            Some("disable") => {
                return Err(
                    "has sslmode=disable for a host on the network: use verify-full".to_owned(),
                );
            }
            Some(mode) => {
                return Err(format!(
                    "has sslmode={mode}: write verify-full, or disable for a socket or a loopback address"
                ));
            }
            None => {}
        }
        let roots = match self.roots.as_deref() {
            None | Some("system") => None,
            Some(path) => Some(file("sslrootcert", path.to_owned())?),
        };
        let client = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("needs sslcert and sslkey together".to_owned()),
        };
        Ok(Some(TlsFiles { roots, client }))
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}
