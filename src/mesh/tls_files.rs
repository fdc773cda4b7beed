//! A listener's certificate from files, reloaded when they change. Invalid files change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::issuance::Authorities;
use crate::log_limit::OnChange;
use crate::net::{Certificates, Entry, TlsError, certified_key};
use crate::x509;

/// How often the files are read. Their contents are compared, so a swap of a symlink (as Kubernetes
/// mounts secrets) counts like any other change.
const INTERVAL: Duration = Duration::from_secs(2);

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
    /// A file does not hold what it should.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not match, or TLS does not support their kind.
    #[error("certificate_file and key_file: {0}")]
    Tls(#[from] TlsError),
}

/// Reloads a listener's certificate from two files.
#[derive(Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    /// The clients are Linkerd's proxies, which reject RSA keys of their identity service.
    for_linkerd: bool,
    seen: Option<(Vec<u8>, zeroize::Zeroizing<Vec<u8>>)>,
}

impl TlsFiles {
    /// Reads the files once, so that the server does not start with invalid ones. `authorities`
    /// reserve the key.
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
        files.reload().await?;
        Ok(files)
    }

    /// Reloads the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut logged = OnChange::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.reload().await {
                Ok(true) => {
                    logged.clear();
                    tracing::info!(file = %self.certificate.display(), "certificate reloaded");
                }
                Ok(false) => logged.clear(),
                Err(error) => {
                    let error = error.to_string();
                    if logged.is_new(&error) {
                        tracing::warn!(%error, "the last valid certificate stays in use");
                    }
                }
            }
        }
    }

    /// Returns whether the files changed.
    async fn reload(&mut self) -> Result<bool, TlsFileError> {
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
            // The error could quote the file's content.
            _ => wrong(&self.key, &"its PEM is broken"),
        })?;
        if let Some(leaf) = chain.first()
            && let Ok(leaf) = x509::Certificate::parse(leaf.as_ref())
        {
            if self.for_linkerd && matches!(leaf.public_key().kind(), x509::KeyKind::Rsa { .. }) {
                let why = "its key is RSA, which Linkerd's proxies reject from their identity service; \
                           use an ECDSA key";
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
