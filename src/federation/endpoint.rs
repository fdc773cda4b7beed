//! One fetch from a bundle endpoint: its own anchors, a bounded answer in a bounded time, no other host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode, header, redirect};

use super::config::{FederationConfig, Server};
use super::document::{Document, MAX_BYTES, Refused};
use super::server_identity;
use crate::error_chain::error_chain;
use crate::x509::read_certificate_ders;

/// For one fetch, from name resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no document. The text names the file or the endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot read {path}: {why}")]
    File { path: PathBuf, why: std::io::Error },
    #[error("{path}: {why}")]
    FirstBundle { path: PathBuf, why: Refused },
    #[error("{path} holds no usable anchor: {why}")]
    Anchors { path: PathBuf, why: String },
    #[error("cannot fetch {url}: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} answered {status}{}", if .status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status { url: String, status: StatusCode },
    #[error("the answer of {url} is longer than {MAX_BYTES} bytes")]
    TooLong { url: String },
    #[error("the bundle of {url} is not taken, and the last one stays in use: {why}")]
    Refused { url: String, why: Refused },
}

/// The document as it came. `last` verifies the server of an `https_spiffe` endpoint.
pub(super) async fn fetch(
    config: &FederationConfig,
    last: Option<&Document>,
) -> Result<Vec<u8>, FetchError> {
    let url = config.url().to_string();
    let failed = |error: reqwest::Error| FetchError::Unreachable {
        url: url.clone(),
        why: error_chain(&error.without_url()),
    };
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT);
    builder = match config.server() {
        Server::Web { ca_file: None } => builder,
        Server::Web {
            ca_file: Some(path),
        } => builder.tls_certs_only(anchors(path).await?),
        Server::Spiffe { id, .. } => {
            let first;
            let roots = match last {
                Some(last) => last,
                None => {
                    first = first_bundle(config).await?;
                    &first
                }
            };
            let tls = server_identity::client_config(id, roots.anchors()).map_err(|error| {
                FetchError::Unreachable {
                    url: url.clone(),
                    why: error.to_string(),
                }
            })?;
            builder.tls_backend_preconfigured(tls)
        }
    };
    let client = builder.build().map_err(failed)?;
    let request = client
        .get(config.url().clone())
        .header(header::ACCEPT, "application/json");
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Status { url, status });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong { url });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What an operator wrote for the first fetch.
async fn first_bundle(config: &FederationConfig) -> Result<Document, FetchError> {
    let path = config.server().bundle_file().unwrap_or(Path::new(""));
    let bytes = read(path).await?;
    let first = Document::from_file(config.trust_domain(), &bytes);
    first.map_err(|why| FetchError::FirstBundle {
        path: path.to_owned(),
        why,
    })
}

async fn anchors(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    let bytes = read(path).await?;
    let unusable = |why: String| FetchError::Anchors {
        path: path.to_owned(),
        why,
    };
    let ders = read_certificate_ders(&bytes).map_err(|error| unusable(error.to_string()))?;
    let each = ders.iter().map(|der| Certificate::from_der(der));
    each.collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))
}

async fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let bytes = tokio::fs::read(path).await;
    bytes.map_err(|why| FetchError::File {
        path: path.to_owned(),
        why,
    })
}
