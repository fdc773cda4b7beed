//! `[upstream.NAME]` as it is written: the keys of every kind.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::ConfigIssue;

/// How an upstream CA is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawKind {
    Command,
    Vault,
}

/// How this server logs in to Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawLogin {
    Token,
    Approle,
}

/// `[upstream.NAME]` of the configuration file. `kind` says which of the other keys it may have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// How the CA is reached.
    pub kind: RawKind,
    /// How long one call may take. Default 60s.
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
    /// The first pause between two polls, or after a failure. Default 30s.
    #[serde(default, with = "humantime_serde")]
    pub poll: Option<Duration>,
    /// The longest such pause. Default 6h.
    #[serde(default, with = "humantime_serde")]
    pub longest_poll: Option<Duration>,
    /// The first pause after a request was refused or cancelled. Default 1h.
    #[serde(default, with = "humantime_serde")]
    pub after_refusal: Option<Duration>,
    /// `command`: the program, by its whole path.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// `command`: its arguments.
    #[serde(default)]
    pub arguments: Option<Vec<String>>,
    /// `command`: the environment variables that it gets from this process, beside HOME and PATH.
    #[serde(default)]
    pub environment: Option<Vec<String>>,
    /// `vault`: the server's URL.
    #[serde(default)]
    pub address: Option<String>,
    /// `vault`: the only trusted roots of its certificate. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// `vault`: where the PKI secrets engine is. Default `pki`.
    #[serde(default)]
    pub mount: Option<String>,
    /// `vault`: the issuer in it. Default: the engine's default one.
    #[serde(default)]
    pub issuer: Option<String>,
    /// `vault`: the namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `vault`: how this server logs in. Default `token`.
    #[serde(default)]
    pub login: Option<RawLogin>,
    /// `vault`: where the login method is. Default: its name.
    #[serde(default)]
    pub login_mount: Option<String>,
    /// `vault` with `token`: a file with the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// `vault` with `token`: a variable with it, instead of a file.
    #[serde(default)]
    pub token_env: Option<String>,
    /// `vault` with `approle`: the role's id.
    #[serde(default)]
    pub role_id: Option<String>,
    /// `vault` with `approle`: a file with the secret id.
    #[serde(default)]
    pub secret_id_file: Option<PathBuf>,
    /// `vault` with `approle`: a variable with it, instead of a file.
    #[serde(default)]
    pub secret_id_env: Option<String>,
}

impl RawUpstream {
    /// The keys that the kind did not take.
    pub(super) fn left(&self) -> Vec<&'static str> {
        let Self {
            kind: _,
            timeout: _,
            poll: _,
            longest_poll: _,
            after_refusal: _,
            program,
            arguments,
            environment,
            address,
            ca_file,
            mount,
            issuer,
            namespace,
            login,
            login_mount,
            token_file,
            token_env,
            role_id,
            secret_id_file,
            secret_id_env,
        } = self;
        [
            ("program", program.is_some()),
            ("arguments", arguments.is_some()),
            ("environment", environment.is_some()),
            ("address", address.is_some()),
            ("ca_file", ca_file.is_some()),
            ("mount", mount.is_some()),
            ("issuer", issuer.is_some()),
            ("namespace", namespace.is_some()),
            ("login", login.is_some()),
            ("login_mount", login_mount.is_some()),
            ("token_file", token_file.is_some()),
            ("token_env", token_env.is_some()),
            ("role_id", role_id.is_some()),
            ("secret_id_file", secret_id_file.is_some()),
            ("secret_id_env", secret_id_env.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_left)| is_left.then_some(key))
        .collect()
    }
}

/// A key that the kind cannot do without.
pub(super) fn required<T>(value: Option<T>, key: &str) -> Result<T, ConfigIssue> {
    value.ok_or_else(|| ConfigIssue::new(key, "is missing, and this kind of upstream needs it"))
}
