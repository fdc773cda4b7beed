//! Operators: each has a file with one random token, and who presents the token is that operator.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::caller::{Caller, Identity, Method};
use super::config::{Config, OperatorConfig};
use super::error::AuthnError;
use crate::digest::sha256;

/// What every operator's credential starts with. No JWT does: decoded, it is not JSON.
pub const OPERATOR_PREFIX: &str = "rb_op_";

/// The random part of a credential, in bytes.
const RANDOM: usize = 32;

/// The longest file that is looked at.
const MAX_BYTES: usize = 1024;

/// How long a reading counts: a replaced file is noticed by then, and callers who guess cannot
/// keep the disk busy.
const FRESH: Duration = Duration::from_millis(100);

/// Every operator, by name.
#[derive(Debug)]
pub struct Operators(BTreeMap<String, Operator>);

#[derive(Debug)]
struct Operator {
    config: OperatorConfig,
    reading: ArcSwapOption<Reading>,
}

/// What the file held: the SHA-256 of its token, never the token.
struct Reading {
    at: Instant,
    digest: Result<[u8; 32], String>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// A credential file that cannot be used; the text names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read the credential file {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// The file holds no credential.
    #[error("{path} does not hold one operator credential ({OPERATOR_PREFIX}…)")]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made; one that is there is never overwritten.
    #[error("cannot make the credential file {path}: {why}")]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
}

impl Operators {
    /// The operators of `config`. Files are read when a credential is presented.
    pub fn new(config: &Config) -> Self {
        let operators = config.operators().iter();
        Self(
            operators
                .map(|(name, config)| (name.clone(), Operator::new(config.clone())))
                .collect(),
        )
    }

    /// Whether `token` is for operators to judge.
    pub fn judge(token: &str) -> bool {
        token.starts_with(OPERATOR_PREFIX)
    }

    /// Which of the operators named in `allowed` presents `token`.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when it is none's; [`AuthnError::Unavailable`] when it may be one's
    /// whose file cannot be read.
    pub async fn authenticate(
        &self,
        token: &str,
        allowed: &[String],
    ) -> Result<Caller, AuthnError> {
        if !well_formed(token) {
            return Err(AuthnError::rejected("not an operator's credential"));
        }
        let presented = sha256(token.as_bytes());
        let mut unread = None;
        let mut found = None;
        for (name, operator) in allowed.iter().filter_map(|name| self.0.get_key_value(name)) {
            match &operator.current().await.digest {
                Ok(held) if verify_slices_are_equal(held, &presented).is_ok() => {
                    found = found.or(Some((name, operator)));
                }
                Ok(_) => {}
                Err(why) => unread = Some(why.clone()),
            }
        }
        match (found, unread) {
            (Some((name, operator)), _) => Ok(Caller {
                trust_domain: operator.config.trust_domain().clone(),
                identity: Identity::Operator(name.clone()),
                method: Method::Operator,
                cluster: None,
                pod: None,
                node: None,
                token_authenticated_at: None,
            }),
            (None, Some(why)) => Err(AuthnError::Unavailable(why)),
            (None, None) => Err(AuthnError::rejected("the credential is no operator's here")),
        }
    }
}

impl Operator {
    fn new(config: OperatorConfig) -> Self {
        Self {
            config,
            reading: ArcSwapOption::empty(),
        }
    }

    async fn current(&self) -> Arc<Reading> {
        if let Some(reading) = self
            .reading
            .load_full()
            .filter(|last| last.at.elapsed() < FRESH)
        {
            return reading;
        }
        let path = self.config.credential_file().to_owned();
        let read = tokio::task::spawn_blocking(move || {
            read_credential(&path)
                .map(|token| sha256(token.expose_secret().as_bytes()))
                .map_err(|why| why.to_string())
        });
        let digest = read
            .await
            .unwrap_or_else(|stopped| Err(stopped.to_string()));
        let reading = Arc::new(Reading {
            at: Instant::now(),
            digest,
        });
        self.reading.store(Some(Arc::clone(&reading)));
        reading
    }
}

/// The credential in a file; white space around it is ignored. Blocks.
///
/// # Errors
/// When the file cannot be read or holds anything but one credential.
pub fn read_credential(path: &Path) -> Result<SecretString, CredentialError> {
    let failed = |why| CredentialError::Read {
        path: path.to_owned(),
        why,
    };
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 1));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let token = text.trim();
    if text.len() > MAX_BYTES || !well_formed(token) {
        return Err(CredentialError::Content {
            path: path.to_owned(),
        });
    }
    Ok(SecretString::from(token))
}

/// Makes a credential file with a new random token, readable by its owner only. Blocks.
///
/// # Errors
/// When the file is there already or cannot be written.
pub fn create_credential(path: &Path) -> Result<SecretString, CredentialError> {
    let failed = |why| CredentialError::Create {
        path: path.to_owned(),
        why,
    };
    let mut random = Zeroizing::new([0_u8; RANDOM]);
    aws_lc_rs::rand::fill(random.as_mut())
        .map_err(|_| failed(std::io::Error::other("no random bytes are to be had")))?;
    let token = Zeroizing::new(format!(
        "{OPERATOR_PREFIX}{}\n",
        Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref())).as_str()
    ));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(token.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(SecretString::from(token.trim_end()))
}

/// The prefix and at least as much after it as is generated: a short one could be guessed.
fn well_formed(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    token.strip_prefix(OPERATOR_PREFIX).is_some_and(|rest| {
        (RANDOM * 4 / 3 + 1..=256).contains(&rest.len()) && rest.bytes().all(plain)
    })
}
