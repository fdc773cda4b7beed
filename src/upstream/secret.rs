//! Credentials for upstream CAs: read whenever they are used, so that one that was replaced counts at
//! once, and wiped afterwards.

use std::io::Read as _;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::answer::Unreachable;
use crate::config_issue::ConfigIssue;

/// Bytes. Longer ones are another kind of file.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretSource {
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl SecretSource {
    /// Exactly one of `KEY_file` and `KEY_env` is given.
    pub(super) fn from_raw(
        key: &str,
        file: Option<PathBuf>,
        env: Option<String>,
    ) -> Result<Self, ConfigIssue> {
        match (file, env) {
            (Some(file), None) if file.is_absolute() => Ok(Self::File(file)),
            (Some(file), None) => {
                let problem = format_args!("{} is not an absolute path", file.display());
                Err(ConfigIssue::new(format!("{key}_file"), problem))
            }
            (None, Some(env)) => Ok(Self::Env(env)),
            (None, None) => {
                let issue = ConfigIssue::new(format!("{key}_file"), "is missing");
                Err(issue.with_fix(format_args!("write {key}_file or {key}_env")))
            }
            (Some(_), Some(_)) => {
                let issue = ConfigIssue::new(format!("{key}_env"), "is given beside a file");
                Err(issue.with_fix(format_args!("write {key}_file or {key}_env")))
            }
        }
    }

    /// The credential, without the line end after it.
    pub(super) fn read(&self) -> Result<SecretString, Unreachable> {
        let text = self.read_text()?;
        match text.expose_secret().contains(char::is_control) {
            true => Err(self.is_none()),
            false => Ok(text),
        }
    }

    /// The same of any number of lines.
    pub(super) fn read_text(&self) -> Result<SecretString, Unreachable> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map(Zeroizing::new).map_err(|_| {
                let why = "is not set, or no UTF-8";
                Unreachable::new(format!("the environment variable {name} {why}"))
            })?,
            Self::File(path) => {
                let failed = |why: &dyn std::fmt::Display| {
                    Unreachable::new(format!("cannot read {}: {why}", path.display()))
                };
                let mut text = Zeroizing::new(String::new());
                std::fs::File::open(path)
                    .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
                    .map_err(|error| failed(&error))?;
                text
            }
        };
        match text.trim() {
            "" => Err(self.is_none()),
            secret => Ok(SecretString::from(secret)),
        }
    }

    fn is_none(&self) -> Unreachable {
        Unreachable::new(format!("{self} holds no credential of one line"))
    }
}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
        }
    }
}
