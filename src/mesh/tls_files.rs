//! A listener's certificate from files: read again when they change, kept when they are wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::issuance::Authorities;
use crate::net::{Certificates, Entry, TlsError, certified_key};
use crate::x509;

/// How often the files are looked at. Their contents are compared, so a swap of a symlink (as
/// Kubernetes mounts secrets) is seen like any other change.
const INTERVAL: Duration = Duration::from_secs(2);

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The two do not belong together, or are of a kind that TLS does not take.
    #[error("certificate_file and key_file: {0}")]
    Tls(#[from] TlsError),
}

/// Keeps a listener's certificate in step with two files.
#[derive(Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    /// Whether the clients are proxies of Linkerd, which take no RSA key here.
    for_linkerd: bool,
    seen: Option<(Vec<u8>, zeroize::Zeroizing<Vec<u8>>)>,
}

impl TlsFiles {
    /// Reads the files once, so that a wrong configuration is told at the start. `authorities`
    /// certify the key for nobody.
    ///
    /// # Errors
    /// [`TlsFileError`] says which file and what is wrong with it.
    pub async fn load(
        certificate: PathBuf,
        key: PathBuf,
        shown: Arc<Certificates>,
        authorities: Arc<Authorities>,
        for_linkerd: bool,
    ) -> Result<Self, TlsFileError> {
        let mut files = Self {
            certificate,
            key,
            shown,
            authorities,
            for_linkerd,
            seen: None,
        };
        files.look().await?;
        Ok(files)
    }

    /// Follows the files until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut last_error = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.look().await {
                Ok(true) => {
                    last_error.clear();
                    tracing::info!(file = %self.certificate.display(), "certificate reloaded");
                }
                Ok(false) => last_error.clear(),
                Err(error) => {
                    // One line for each new reason, not one for each look.
                    let text = error.to_string();
                    if text != last_error {
                        tracing::warn!(error = %text, "the last good certificate stays in use");
                        last_error = text;
                    }
                }
            }
        }
    }

    /// Whether there was something new.
    async fn look(&mut self) -> Result<bool, TlsFileError> {
        let now = (
            read(&self.certificate).await?,
            zeroize::Zeroizing::new(read(&self.key).await?),
        );
        if self.seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        let wrong = |path: &Path, why: &dyn std::fmt::Display| TlsFileError::Content {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let chain = CertificateDer::pem_slice_iter(&now.0)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&self.certificate, &error))?;
        if chain.is_empty() {
            let why = "it holds no CERTIFICATE block (-----BEGIN CERTIFICATE-----)";
            return Err(wrong(&self.certificate, &why));
        }
        let key = PrivateKeyDer::from_pem_slice(&now.1).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong(&self.key, &"it holds no private key in PEM"),
            // The rest of what is there must not be shown, whatever it is.
            _ => wrong(&self.key, &"its PEM is broken"),
        })?;
        if let Some(leaf) = chain.first()
            && let Ok(leaf) = x509::Certificate::parse(leaf.as_ref())
        {
            if self.for_linkerd && matches!(leaf.public_key().kind(), x509::KeyKind::Rsa { .. }) {
                let why = "its key is RSA, which Linkerd's proxies do not take from their identity \
                           service; use an ECDSA key";
                return Err(wrong(&self.certificate, &why));
            }
            self.authorities.reserve_key(leaf.public_key());
        }
        let entry = Entry {
            names: Vec::new(),
            key: certified_key(chain, key)?,
        };
        self.shown.replace(vec![entry]);
        self.seen = Some(now);
        Ok(true)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let wrong = |source| TlsFileError::Read {
        path: path.to_owned(),
        source,
    };
    tokio::fs::read(path).await.map_err(wrong)
}
