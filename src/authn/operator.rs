//! Operators: each has a file with a random token. Whoever presents the token is that operator.

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

/// The prefix of every operator's credential, and of no JWT: decoded, it is not JSON.
pub const OPERATOR_PREFIX: &str = "rb_op_";

/// The random part of a credential, in bytes.
const RANDOM_BYTES: usize = 32;

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 1024;

/// How long a digest is cached: replaced files are noticed soon, and callers that guess cannot keep
/// the disk busy.
const CACHE_TIME: Duration = Duration::from_millis(100);

/// Every operator, by name.
#[derive(Debug)]
pub struct Operators(BTreeMap<String, Operator>);

#[derive(Debug)]
struct Operator {
    config: OperatorConfig,
    cached: ArcSwapOption<CachedDigest>,
}

/// The SHA-256 of the file's token, or why it could not be read.
struct CachedDigest {
    at: Instant,
    digest: Result<[u8; 32], String>,
}

impl std::fmt::Debug for CachedDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedDigest").finish_non_exhaustive()
    }
}

/// Why a credential file cannot be used. The text names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read the credential file {path}: {why}")]
    Read { path: PathBuf, why: std::io::Error },
    #[error("{path} does not hold one operator credential ({OPERATOR_PREFIX}…)")]
    Content { path: PathBuf },
    /// An existing file is never overwritten.
    #[error("cannot create the credential file {path}: {why}")]
    Create { path: PathBuf, why: std::io::Error },
}

impl CredentialError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { why, .. } if why.kind() == std::io::ErrorKind::NotFound)
    }
}

impl Operators {
    /// The files are read when a credential is presented.
    pub fn new(config: &Config) -> Self {
        let operators = config.operators().iter();
        Self(
            operators
                .map(|(name, config)| (name.clone(), Operator::new(config.clone())))
                .collect(),
        )
    }

    /// Whether `token` is an operator's, by its prefix.
    pub fn is_operator_token(token: &str) -> bool {
        token.starts_with(OPERATOR_PREFIX)
    }

    /// The operator among `allowed` that presents `token`.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when no operator has it, [`AuthnError::Unavailable`] when a file that
    /// may hold it cannot be read.
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
            match &operator.current_digest().await.digest {
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
            (None, None) => Err(AuthnError::rejected("no operator here has this credential")),
        }
    }
}

impl Operator {
    fn new(config: OperatorConfig) -> Self {
        Self {
            config,
            cached: ArcSwapOption::empty(),
        }
    }

    async fn current_digest(&self) -> Arc<CachedDigest> {
        if let Some(cached) = self
            .cached
            .load_full()
            .filter(|last| last.at.elapsed() < CACHE_TIME)
        {
            return cached;
        }
        let path = self.config.credential_file().to_owned();
        let read = tokio::task::spawn_blocking(move || {
            read_credential(&path)
                .map(|token| sha256(token.expose_secret().as_bytes()))
                .map_err(|why| why.to_string())
        });
        let digest = read
            .await
            .unwrap_or_else(|join_error| Err(join_error.to_string()));
        let cached = Arc::new(CachedDigest {
            at: Instant::now(),
            digest,
        });
        self.cached.store(Some(Arc::clone(&cached)));
        cached
    }
}

/// Reads the credential in a file, ignoring white space around it. Blocks.
pub fn read_credential(path: &Path) -> Result<SecretString, CredentialError> {
    let failed = |why| CredentialError::Read {
        path: path.to_owned(),
        why,
    };
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES + 1));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    // Tools of Windows write a byte order mark before UTF-8.
    let token = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    if text.len() > MAX_FILE_BYTES || !well_formed(token) {
        return Err(CredentialError::Content {
            path: path.to_owned(),
        });
    }
    Ok(SecretString::from(token))
}

/// Creates a credential file with a new random token, readable by its owner only. Blocks.
///
/// # Errors
/// [`CredentialError::Create`], also where the file exists.
pub fn create_credential(path: &Path) -> Result<std::fs::File, CredentialError> {
    let failed = |why| CredentialError::Create {
        path: path.to_owned(),
        why,
    };
    let mut random = Zeroizing::new([0_u8; RANDOM_BYTES]);
    aws_lc_rs::rand::fill(random.as_mut())
        .map_err(|_| failed(std::io::Error::other("no random bytes are available")))?;
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
    Ok(file)
}

/// Whether it has the prefix and at least the generated length: a shorter one could be guessed.
fn well_formed(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    token.strip_prefix(OPERATOR_PREFIX).is_some_and(|rest| {
        (RANDOM_BYTES * 4 / 3 + 1..=256).contains(&rest.len()) && rest.bytes().all(plain)
    })
}
