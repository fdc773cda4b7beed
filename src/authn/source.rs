//! Where a key set is read from: a file, or an https URL with roots of its own.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Certificate, Client, StatusCode, Url, header, redirect};

use super::jwks::MAX_BYTES;
use crate::error_chain::error_chain;

/// How long one fetch may take, from the name's resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A key set that another room knows how to read, such as a cluster's by its API server.
pub trait KeySource: Send + Sync + std::fmt::Debug {
    /// The set as it stands now; `most` bytes of it at most. The error says what was tried, for the
    /// log.
    fn read(&self, most: usize) -> BoxFuture<'_, Result<Vec<u8>, String>>;
}

/// A key set's place.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Read by somebody else; the name is for the log.
    Given {
        name: String,
        source: Arc<dyn KeySource>,
    },
    File(PathBuf),
    Https {
        url: Url,
        /// The only roots that are trusted; without it the system's are.
        ca_file: Option<PathBuf>,
    },
}

/// Why a key set could not be read; the text names the file or the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{name}: {why}")]
    Given { name: String, why: String },
    #[error("cannot read {path}: {why}")]
    File { path: PathBuf, why: std::io::Error },
    #[error("{place} is larger than {MAX_BYTES} bytes")]
    TooLarge { place: String },
    #[error("{path} holds no usable CA certificate: {why}")]
    Roots { path: PathBuf, why: String },
    #[error("cannot fetch {url}: {why}")]
    Fetch { url: Url, why: String },
    #[error("{url} answered {status}{}", if .status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status { url: Url, status: StatusCode },
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one == two,
            (
                Self::Https { url, ca_file },
                Self::Https {
                    url: other_url,
                    ca_file: other_file,
                },
            ) => url == other_url && ca_file == other_file,
            (Self::Given { source, .. }, Self::Given { source: other, .. }) => {
                Arc::ptr_eq(source, other)
            }
            _ => false,
        }
    }
}

impl Eq for Source {}

impl Source {
    /// Reads the set's bytes, at most [`MAX_BYTES`] of them.
    pub(super) async fn read(&self) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Given { name, source } => {
                source
                    .read(MAX_BYTES)
                    .await
                    .map_err(|why| SourceError::Given {
                        name: name.clone(),
                        why,
                    })
            }
            Self::File(path) => read_file(path).await,
            Self::Https { url, ca_file } => fetch(url, ca_file.as_deref()).await,
        }
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // The path is opened anew each time: behind a `..data` symlink it is a new file.
        std::fs::File::open(owned)?
            .take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read
        .await
        .unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
        .map_err(|why| SourceError::File {
            path: path.to_owned(),
            why,
        })?;
    if bytes.len() > MAX_BYTES {
        return Err(SourceError::TooLarge {
            place: path.display().to_string(),
        });
    }
    Ok(bytes)
}

/// The client is made for each fetch, so that a CA file that was replaced counts at once; fetches
/// are minutes apart.
async fn fetch(url: &Url, ca_file: Option<&Path>) -> Result<Vec<u8>, SourceError> {
    let failed = |why: reqwest::Error| SourceError::Fetch {
        url: url.clone(),
        why: error_chain(&why.without_url()),
    };
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT);
    if let Some(path) = ca_file {
        builder = builder.tls_certs_only(roots(path).await?);
    }
    let client = builder.build().map_err(failed)?;
    let request = client
        .get(url.clone())
        .header(header::ACCEPT, "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(SourceError::Status {
            url: url.clone(),
            status: response.status(),
        });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(SourceError::TooLarge {
                place: url.to_string(),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn roots(path: &Path) -> Result<Vec<Certificate>, SourceError> {
    let refused = |why: String| SourceError::Roots {
        path: path.to_owned(),
        why,
    };
    let pem = read_file(path).await?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|why| refused(error_chain(&why)))?;
    if roots.is_empty() {
        return Err(refused("it has no CERTIFICATE block".to_owned()));
    }
    Ok(roots)
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given { name, .. } => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Https { url, .. } => url.fmt(f),
        }
    }
}
