//! Sources of key sets: files, https URLs, and other modules.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use reqwest::{Certificate, Client, StatusCode, Url, header, redirect};
use zeroize::Zeroizing;

use super::jwks::MAX_BYTES;
use crate::error_chain::error_chain;
use crate::x509::read_certificate_ders;

/// For one fetch, from name resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a key set for another module, such as a cluster's from its API server.
pub trait KeySource: Send + Sync + std::fmt::Debug {
    /// Reads at most `limit` bytes. The error is for the log.
    fn read(&self, limit: usize) -> BoxFuture<'_, Result<Vec<u8>, String>>;
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The name is for the log.
    External {
        name: String,
        source: Arc<dyn KeySource>,
    },
    File(PathBuf),
    Https {
        url: Url,
        /// The only trusted roots; the system's without it.
        ca_file: Option<PathBuf>,
        /// The token that is presented, as a service account's in a pod.
        token_file: Option<PathBuf>,
    },
}

/// Why a key set could not be read. The text names the file or the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{name}: {why}")]
    External { name: String, why: String },
    #[error("cannot read {path}: {why}")]
    File { path: PathBuf, why: std::io::Error },
    #[error("{location} is larger than {MAX_BYTES} bytes")]
    TooLarge { location: String },
    #[error("{path} holds no usable CA certificate: {why}")]
    Roots { path: PathBuf, why: String },
    #[error("cannot fetch {url}: {why}")]
    Fetch { url: Url, why: String },
    #[error("{path} holds no token: it is empty, or holds what no token can")]
    Token { path: PathBuf },
    #[error("{url} answered {status}{}", hint(*.status, *.with_token))]
    Status {
        url: Url,
        status: StatusCode,
        with_token: bool,
    },
}

/// What helps against a status.
fn hint(status: StatusCode, with_token: bool) -> &'static str {
    match (status, with_token) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, false) => {
            "; an API server wants a token: set jwks_token_file"
        }
        (StatusCode::UNAUTHORIZED, true) => {
            "; it does not accept the token of jwks_token_file: look at its audience and its end"
        }
        (StatusCode::FORBIDDEN, true) => {
            "; in Kubernetes the ClusterRole system:service-account-issuer-discovery lets the token of \
             jwks_token_file read them"
        }
        (status, _) if status.is_redirection() => "; redirects are not followed",
        _ => "",
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one == two,
            (
                Self::Https {
                    url,
                    ca_file,
                    token_file,
                },
                Self::Https {
                    url: other_url,
                    ca_file: other_file,
                    token_file: other_token,
                },
            ) => url == other_url && ca_file == other_file && token_file == other_token,
            (Self::External { source, .. }, Self::External { source: other, .. }) => {
                Arc::ptr_eq(source, other)
            }
            _ => false,
        }
    }
}

impl Eq for Source {}

impl Source {
    /// Reads at most [`MAX_BYTES`].
    pub(super) async fn read(&self) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::External { name, source } => {
                source
                    .read(MAX_BYTES)
                    .await
                    .map_err(|why| SourceError::External {
                        name: name.clone(),
                        why,
                    })
            }
            Self::File(path) => read_file(path).await,
            Self::Https {
                url,
                ca_file,
                token_file,
            } => fetch(url, ca_file.as_deref(), token_file.as_deref()).await,
        }
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // Opened by path each time: behind a `..data` symlink it may be a new file.
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
            location: path.display().to_string(),
        });
    }
    // Tools of Windows write a byte order mark before UTF-8.
    Ok(match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(text) => text.to_vec(),
        None => bytes,
    })
}

/// Builds a client for each fetch, so that a replaced CA file takes effect at once, as the token is read
/// for each. Fetches are minutes apart.
async fn fetch(
    url: &Url,
    ca_file: Option<&Path>,
    token_file: Option<&Path>,
) -> Result<Vec<u8>, SourceError> {
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
    let mut request = client
        .get(url.clone())
        .header(header::ACCEPT, "application/jwk-set+json, application/json");
    if let Some(path) = token_file {
        request = request.header(header::AUTHORIZATION, authorization(path).await?);
    }
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(SourceError::Status {
            url: url.clone(),
            status: response.status(),
            with_token: token_file.is_some(),
        });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(SourceError::TooLarge {
                location: url.to_string(),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The header with the token of a file; white space around it is left out.
async fn authorization(path: &Path) -> Result<HeaderValue, SourceError> {
    let bytes = Zeroizing::new(read_file(path).await?);
    let refused = || SourceError::Token {
        path: path.to_owned(),
    };
    let token = bytes.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(refused());
    }
    let text = Zeroizing::new([b"Bearer ".as_slice(), token].concat());
    let mut value = HeaderValue::from_bytes(&text).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn roots(path: &Path) -> Result<Vec<Certificate>, SourceError> {
    let refused = |why: String| SourceError::Roots {
        path: path.to_owned(),
        why,
    };
    let file = read_file(path).await?;
    read_certificate_ders(&file)
        .map_err(|why| refused(why.to_string()))?
        .iter()
        .map(|der| Certificate::from_der(der).map_err(|why| refused(error_chain(&why))))
        .collect()
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::External { name, .. } => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Https { url, .. } => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// With a size: two values of none may have one address.
    #[derive(Debug)]
    struct Other(u8);

    impl KeySource for Other {
        fn read(&self, _: usize) -> BoxFuture<'_, Result<Vec<u8>, String>> {
            Box::pin(async { Err(self.0.to_string()) })
        }
    }

    /// A reload keeps the keys of an equal source, so a source is equal only to itself.
    #[test]
    fn each_source_is_equal_to_itself_alone() {
        let https = |url: &str, ca_file: Option<&str>| Source::Https {
            url: url.parse().unwrap(),
            ca_file: ca_file.map(PathBuf::from),
            token_file: None,
        };
        let with_token = Source::Https {
            url: "https://a/keys".parse().unwrap(),
            ca_file: None,
            token_file: Some("token".into()),
        };
        let external = |source: &Arc<dyn KeySource>| Source::External {
            name: "east".to_owned(),
            source: Arc::clone(source),
        };
        let one: Arc<dyn KeySource> = Arc::new(Other(0));
        let two: Arc<dyn KeySource> = Arc::new(Other(1));
        let all = [
            Source::File("a".into()),
            Source::File("b".into()),
            https("https://a/keys", None),
            https("https://a/other", None),
            https("https://a/keys", Some("ca")),
            https("https://a/keys", Some("cb")),
            with_token,
            external(&one),
            external(&two),
        ];
        for (at, left) in all.iter().enumerate() {
            for (place, right) in all.iter().enumerate() {
                assert_eq!(left == right, at == place, "{left:?} {right:?}");
            }
        }
    }
}
