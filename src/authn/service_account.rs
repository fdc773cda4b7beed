//! Service account tokens of one cluster, verified here by its API server's own keys.
//!
//! The API server knows more than its keys: whether the token's pod and account still stand, keys
//! and issuers that it does not publish, tokens bound to other objects. So there are three answers
//! and not two: bound to this pod and account, rejected, and [`Unsure`], which is the API server's
//! own to judge. It is rejected here only where the API server would be sure to say no as well.

use std::sync::Arc;
use std::time::Duration;

use super::caller::Pod;
use super::claims::Claims;
use super::error::{AuthnError, Quoted};
use super::jwt::split;
use super::key::{Algorithm, Refused};
use super::keys::{KeysConfig, KeysReport, LiveKeys};
use super::source::{KeySource, Source};
use super::subject::{named, service_account};
use crate::clock::{Clock, UnixTime};

/// How often the keys are fetched.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long the last good copy counts; past it the API server is asked about each token.
const KEEP: Duration = Duration::from_secs(60 * 60);
/// How far the API server's clock may be ahead of this one.
const AHEAD: Duration = Duration::from_secs(60);

/// The keys of one cluster's API server.
#[derive(Debug)]
pub struct ServiceAccountKeys {
    name: String,
    keys: LiveKeys,
    clock: Arc<dyn Clock>,
}

/// What a verified token is bound to. That these objects still stand is not known by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundToken {
    /// The name of the service account, in the pod's namespace.
    pub account: String,
    /// The service account's UID.
    pub account_uid: String,
    /// The pod.
    pub pod: Pod,
    /// The node that the pod was on when the token was made.
    pub node: Option<String>,
    /// The `kid` of the key that signed, where the key has one.
    pub key_id: Option<String>,
}

/// Why a token cannot be judged by keys alone: the API server must be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsure(String);

impl ServiceAccountKeys {
    /// Starts reading the keys of the cluster `name` from `source`; to be called inside a tokio
    /// runtime.
    pub fn start(name: &str, source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Self {
        let name = format!("cluster {name}");
        let config = KeysConfig {
            source: Source::Given {
                name: name.clone(),
                source,
            },
            refresh: REFRESH,
            keep: KEEP,
        };
        Self {
            keys: LiveKeys::start(&name, config, Arc::clone(&clock)),
            name,
            clock,
        }
    }

    /// What `token` is bound to, if `issuer` made it for `audience`.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when it is expired, for another audience or badly signed.
    pub async fn verify(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
    ) -> Result<Result<BoundToken, Unsure>, AuthnError> {
        let parts = split(token)?;
        let header = parts.header().map_err(AuthnError::rejected)?;
        let claims = parts.claims().map_err(AuthnError::rejected)?;
        if claims.iss != issuer {
            return unsure(format_args!(
                "its issuer is {}, and the API server publishes another",
                Quoted(&claims.iss)
            ));
        }
        if let Some(why) = self.check(&claims, audience)? {
            return unsure(why);
        }
        let Some(bound) = bindings(&claims) else {
            return unsure("it is not bound to a pod and its account");
        };
        let (kid, Some(algorithm)) = (header.kid.as_deref(), Algorithm::parse(&header.alg)) else {
            return unsure(format_args!(
                "its algorithm is {}, which is not verified here",
                Quoted(&header.alg)
            ));
        };
        let verdict = self.keys.ask(|set| {
            let verdict = set.verify(kid, algorithm, parts.signed, &parts.signature)?;
            Some(verdict.map(|id| id.map(str::to_owned)))
        });
        match verdict.await {
            Ok(Some(Ok(key_id))) => Ok(Ok(BoundToken { key_id, ..bound })),
            Ok(Some(Err(why @ (Refused::Signature | Refused::Algorithm)))) => {
                Err(self.rejected(why))
            }
            Ok(Some(Err(why @ Refused::NoKeyId))) => unsure(why),
            Ok(None) => unsure("the API server publishes no such key"),
            Err(why) => unsure(why),
        }
    }

    /// How the keys stand.
    pub fn report(&self) -> KeysReport {
        self.keys.report()
    }

    /// What is wrong with the claims: an error when it is certain, a text when this clock may be.
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
            return Err(self.rejected(format_args!("the token is not for the audience {audience}")));
        }
        let latest = now.plus(AHEAD);
        let begins = [claims.nbf, claims.iat].into_iter().flatten().map(at);
        let early = begins.into_iter().any(|begin| begin > latest);
        Ok(early.then_some("by this clock its time has not come yet"))
    }

    fn rejected(&self, why: impl std::fmt::Display) -> AuthnError {
        AuthnError::rejected(format_args!("by the keys of {}: {why}", self.name))
    }
}

fn unsure<T>(why: impl std::fmt::Display) -> Result<Result<T, Unsure>, AuthnError> {
    Ok(Err(Unsure(why.to_string())))
}

/// Pod and account, where the token is bound to both and its claims agree with each other.
fn bindings(claims: &Claims<'_>) -> Option<BoundToken> {
    let (namespace, account) = service_account(&claims.sub)?;
    let bound = claims.kubernetes.as_ref()?;
    let (account_name, account_uid) = named(bound.service_account.as_ref()?)?;
    let (name, uid) = named(bound.pod.as_ref()?)?;
    if account_name != account || bound.namespace.as_deref() != Some(namespace) {
        return None;
    }
    let node = match &bound.node {
        None => None,
        Some(node) => Some(named(node)?.0),
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
