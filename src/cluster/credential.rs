//! The credential of a client: what each request presents.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use rustls::sign::CertifiedKey;

use super::bearer::bearer;
use super::bounded_file::read_text;
use super::exec::{ExecCredential, Granted};
use super::target::{Access, Target};
use crate::clock::Clock;

/// How old the content of a token file may be.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Credential {
    Fixed(Option<HeaderValue>),
    TokenFile(TokenFile),
    Exec(ExecCredential),
}

#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    fallback: Option<HeaderValue>,
    last: Mutex<Option<(Instant, HeaderValue)>>,
}

/// What one request presents.
#[derive(Clone)]
pub(super) struct Presented {
    pub(super) authorization: Option<HeaderValue>,
    /// Instead of the client certificate that the client was made with.
    pub(super) identity: Option<Arc<CertifiedKey>>,
    granted: Option<Arc<Granted>>,
}

impl Credential {
    pub(super) fn new(cluster: &str, target: &Target, clock: Arc<dyn Clock>) -> Self {
        match &target.access {
            Access::None => Self::Fixed(None),
            Access::Fixed(header) => Self::Fixed(Some(header.clone())),
            Access::TokenFile { path, token } => Self::TokenFile(TokenFile {
                path: path.clone(),
                fallback: token.clone(),
                last: Mutex::new(None),
            }),
            Access::Exec(plugin) => {
                Self::Exec(ExecCredential::new(cluster, Arc::clone(plugin), clock))
            }
        }
    }

    /// For the next request.
    pub(super) async fn present(&self) -> Result<Presented, String> {
        let authorization = match self {
            Self::Fixed(header) => header.clone(),
            Self::TokenFile(file) => Some(file.header(TOKEN_FILE_AGE).await?),
            Self::Exec(program) => {
                let granted = program.get().await.map_err(|why| why.to_string())?;
                return Ok(Presented::granted(granted));
            }
        };
        Ok(Presented {
            authorization,
            identity: None,
            granted: None,
        })
    }

    /// Another credential, after the API server has refused this one; `None`: there is none.
    pub(super) async fn after_refusal(&self, refused: &Presented) -> Option<Presented> {
        match self {
            Self::Fixed(_) => None,
            Self::TokenFile(file) => {
                let now = Some(file.header(Duration::ZERO).await.ok()?);
                (now != refused.authorization).then_some(Presented {
                    authorization: now,
                    identity: None,
                    granted: None,
                })
            }
            Self::Exec(program) => {
                let next = program.after_refusal(refused.granted.as_ref()?).await?;
                Some(Presented::granted(next))
            }
        }
    }
}

impl Presented {
    fn granted(granted: Arc<Granted>) -> Self {
        Self {
            authorization: granted.authorization.clone(),
            identity: granted.identity.clone(),
            granted: Some(granted),
        }
    }
}

impl TokenFile {
    /// The token, read again when it is older than `most`. While the file cannot be read, the last one.
    async fn header(&self, most: Duration) -> Result<HeaderValue, String> {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, header)) = &last
            && at.elapsed() < most
        {
            return Ok(header.clone());
        }
        let path = self.path.display();
        let read = read_text(&self.path).await.map_err(|why| why.to_string());
        let read = read.and_then(|text| {
            bearer(&text).ok_or_else(|| format!("{path}: it is empty or holds what no token can"))
        });
        let header = match (read, last, &self.fallback) {
            (Ok(header), ..) => header,
            (Err(_), Some((_, header)), _) => header,
            (Err(_), None, Some(header)) => header.clone(),
            (Err(why), None, None) => return Err(format!("the token file {why}")),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), header.clone()));
        Ok(header)
    }
}
