//! A listener's certificate from files, reloaded when they change. Invalid files change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::certificate_pair::{CertificatePair, TlsFileError};
use crate::clock::Clock;
use crate::issuance::Authorities;
use crate::log_limit::OnChange;
use crate::net::Certificates;

/// How often the files are read. Their contents are compared, so a swap of a symlink (as Kubernetes
/// mounts secrets) counts like any other change.
const INTERVAL: Duration = Duration::from_secs(2);

/// The files of a listener, from its configuration.
#[derive(Debug, Clone)]
pub struct TlsFilePaths {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The clients are Linkerd's proxies, which reject RSA keys of their identity service.
    pub for_linkerd: bool,
}

/// Reloads a listener's certificate from two files.
#[derive(Debug)]
pub struct TlsFiles {
    paths: TlsFilePaths,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    seen: Option<(Vec<u8>, zeroize::Zeroizing<Vec<u8>>)>,
    pair: Option<CertificatePair>,
    /// The problem of the certificate in use that was logged last.
    not_valid: OnChange,
}

impl TlsFiles {
    /// Reads the files once, so that the server does not start with unusable ones. An expired
    /// certificate is served, and logged as an error. `authorities` reserve the key.
    ///
    /// # Errors
    /// [`TlsFileError`] says which file and what is wrong with it.
    pub async fn load(
        paths: TlsFilePaths,
        shown: Arc<Certificates>,
        authorities: Arc<Authorities>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsFileError> {
        let mut files = Self {
            paths,
            shown,
            authorities,
            clock,
            seen: None,
            pair: None,
            not_valid: OnChange::default(),
        };
        files.reload().await?;
        files.log_validity();
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
                    // A new certificate that has expired too is logged again.
                    self.not_valid.clear();
                    let file = self.paths.certificate.display();
                    tracing::info!(%file, "certificate reloaded");
                }
                Ok(false) => logged.clear(),
                Err(error) => {
                    let error = error.to_string();
                    if logged.is_new(&error) {
                        tracing::warn!(%error, "the last valid certificate stays in use");
                    }
                }
            }
            self.log_validity();
        }
    }

    fn log_validity(&mut self) {
        let now = self.clock.now();
        match self.pair.as_ref().and_then(|pair| pair.not_valid(now)) {
            Some(problem) => {
                if self.not_valid.is_new(&problem) {
                    let file = self.paths.certificate.display();
                    tracing::error!(%file, "{problem}");
                }
            }
            None => self.not_valid.clear(),
        }
    }

    /// Returns whether the files changed.
    async fn reload(&mut self) -> Result<bool, TlsFileError> {
        let (certificate, key) = (&self.paths.certificate, &self.paths.key);
        let now = (
            read(certificate).await?,
            zeroize::Zeroizing::new(read(key).await?),
        );
        if self.seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        let for_linkerd = self.paths.for_linkerd;
        let pair = CertificatePair::parse(certificate, &now.0, key, &now.1, for_linkerd)?;
        if let Some(leaf) = pair.leaf() {
            self.authorities.reserve_key(leaf.public_key());
        }
        self.shown.replace(vec![pair.entry.clone()]);
        self.pair = Some(pair);
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
