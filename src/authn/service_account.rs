//! Service account tokens of one cluster, verified here with its API server's keys.
//!
//! The API server knows more than its published keys: whether the token's pod and account exist,
//! unpublished keys and issuers, tokens bound to other objects. So there are three results: bound
//! to this pod and account, rejected, and [`NeedsReview`], which only the API server can decide. A
//! token is rejected here only where the API server would reject it too.

use std::sync::Arc;
use std::time::Duration;

use super::caller::Pod;
use super::claims::{Claims, KubernetesClaims};
use super::error::{AuthnError, Quoted};
use super::jwt::split;
use super::key::{Algorithm, SignatureError};
use super::key_cache::{KeyCache, KeyCacheConfig, KeyCacheReport};
use super::source::{KeySource, Source};
use super::subject::{name_and_uid, node_name, service_account};
use crate::clock::{Clock, UnixTime};

/// How often the keys are fetched.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long cached keys may be used. After that, the API server reviews each token.
const KEEP: Duration = Duration::from_secs(60 * 60);
/// How far the API server's clock may be ahead of this one.
const AHEAD: Duration = Duration::from_secs(60);

/// Verifies tokens with the keys of one cluster's API server.
#[derive(Debug)]
pub struct ServiceAccountKeys {
    name: String,
    keys: KeyCache,
    clock: Arc<dyn Clock>,
}

/// The objects that a verified token is bound to. They may no longer exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundToken {
    /// The service account's name; its namespace is the pod's.
    pub account: String,
    pub account_uid: String,
    pub pod: Pod,
    /// The pod's node when the token was issued.
    pub node: Option<String>,
    /// The `kid` of the key that signed.
    pub key_id: Option<String>,
}

/// What the keys that are known now say of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    Yes,
    /// Of the key that the token names.
    No(String),
    /// The token names no key that is known.
    Unknown,
}

/// Why the keys cannot decide on a token, so that it needs a TokenReview.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NeedsReview(String);

impl ServiceAccountKeys {
    /// Starts fetching the keys of the cluster `name` from `source`, inside a tokio runtime.
    pub fn start(name: &str, source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Self {
        let name = format!("cluster {name}");
        let config = KeyCacheConfig {
            source: Source::External {
                name: name.clone(),
                source,
            },
            refresh: REFRESH,
            keep: KEEP,
        };
        Self {
            keys: KeyCache::start(&name, config, Arc::clone(&clock)),
            name,
            clock,
        }
    }

    /// The objects that `token` is bound to, if `issuer` issued it for `audience`.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when it is expired, for another audience or badly signed.
    pub async fn verify(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
    ) -> Result<Result<BoundToken, NeedsReview>, AuthnError> {
        let parts = split(token)?;
        let header = parts.header().map_err(AuthnError::rejected)?;
        let claims = parts.claims().map_err(AuthnError::rejected)?;
        if claims.iss != issuer {
            return needs_review(format_args!(
                "its issuer is {}, and the API server publishes another",
                Quoted(&claims.iss)
            ));
        }
        if let Some(why) = self.check(&claims, audience)? {
            return needs_review(why);
        }
        let bindings = parts.bindings().map_err(AuthnError::rejected)?;
        let Some(bound) = bound(&claims, bindings.as_ref()) else {
            return needs_review("it is not bound to a pod and its account");
        };
        let (kid, Some(algorithm)) = (header.kid.as_deref(), Algorithm::parse(&header.alg)) else {
            return needs_review(format_args!(
                "its algorithm is {}, which is not verified here",
                Quoted(&header.alg)
            ));
        };
        let verdict = self.keys.query(|set| {
            let verdict = set.verify(kid, algorithm, parts.signed, &parts.signature)?;
            Some(verdict.map(|id| id.map(str::to_owned)))
        });
        match verdict.await {
            Ok(Some(Ok(key_id))) => Ok(Ok(BoundToken { key_id, ..bound })),
            Ok(Some(Err(why @ (SignatureError::Signature | SignatureError::Algorithm)))) => {
                Err(self.rejected(why))
            }
            Ok(Some(Err(why @ SignatureError::NoKeyId))) => needs_review(why),
            Ok(None) => needs_review("the API server publishes no such key"),
            Err(why) => needs_review(why),
        }
    }

    /// Whether one of the keys has signed `token`, without a fetch.
    pub fn signed(&self, token: &str) -> Signed {
        let Ok(parts) = split(token) else {
            return Signed::Unknown;
        };
        let Ok(header) = parts.header() else {
            return Signed::Unknown;
        };
        let (kid, Some(algorithm)) = (header.kid.as_deref(), Algorithm::parse(&header.alg)) else {
            return Signed::Unknown;
        };
        let verdict = self.keys.cached(|set| {
            let verdict = set.verify(kid, algorithm, parts.signed, &parts.signature)?;
            Some(verdict.map(drop))
        });
        match verdict {
            Some(Ok(())) => Signed::Yes,
            Some(Err(why @ (SignatureError::Signature | SignatureError::Algorithm))) => {
                Signed::No(why.to_string())
            }
            Some(Err(SignatureError::NoKeyId)) | None => Signed::Unknown,
        }
    }

    pub fn report(&self) -> KeyCacheReport {
        self.keys.report()
    }

    /// An error when the claims are certainly wrong; a text when this server's clock may be.
    fn check(
        &self,
        claims: &Claims<'_>,
        audience: &str,
    ) -> Result<Option<&'static str>, AuthnError> {
        let now = self.clock.now();
        let at = UnixTime::from_secs;
        if at(claims.exp) <= now {
            return Err(self.rejected(format_args!("the token expired at {}", at(claims.exp))));
        }
        if !claims.aud.include(audience) {
            return Err(self.rejected(format_args!(
                "the token is not for the audience {audience}; it is for {}",
                claims.aud
            )));
        }
        let latest = now.plus(AHEAD);
        let starts = [claims.nbf, claims.iat].into_iter().flatten().map(at);
        let early = starts.into_iter().any(|start| start > latest);
        Ok(early.then_some("it is not valid yet by this server's clock"))
    }

    fn rejected(&self, why: impl std::fmt::Display) -> AuthnError {
        AuthnError::rejected(format_args!("by the keys of {}: {why}", self.name))
    }
}

fn needs_review<T>(why: impl std::fmt::Display) -> Result<Result<T, NeedsReview>, AuthnError> {
    Ok(Err(NeedsReview(why.to_string())))
}

/// Pod and account, if the token is bound to both and its claims agree.
fn bound(claims: &Claims<'_>, bindings: Option<&KubernetesClaims<'_>>) -> Option<BoundToken> {
    let (namespace, account) = service_account(&claims.sub)?;
    let bound = bindings?;
    let (account_name, account_uid) = name_and_uid(bound.service_account.as_ref()?)?;
    let (name, uid) = name_and_uid(bound.pod.as_ref()?)?;
    if account_name != account || bound.namespace.as_deref() != Some(namespace) {
        return None;
    }
    let node = match &bound.node {
        None => None,
        Some(node) => node_name(node)?,
    };
    Some(BoundToken {
        account: account_name,
        account_uid,
        pod: Pod {
            name,
            uid,
            namespace: namespace.to_owned(),
        },
        node,
        key_id: None,
    })
}
