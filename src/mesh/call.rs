//! What every call has in common: a request id, and a caller.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::refusals::{Metrics, delegation_reason, reason};
use crate::authn::{
    self, Api, AuthnError, Caller, Callers, CertificateCallers, JwtVerifiers, Operators,
};
use crate::cluster::{Clusters, ListenerClusters, NodeAuthorizationError};
use crate::net::Peer;
use crate::policy::Delegation;

/// The header in which a caller may bring a request id of its own.
const REQUEST_ID: &str = "x-request-id";

/// The header in which Istio's agents name their cluster.
const CLUSTER_ID: &str = "clusterid";

/// Who may call on one listener, and how that is found out. Clones share it; a reload of the
/// configuration replaces what is in it.
#[derive(Debug, Clone)]
pub struct Gate {
    judges: Arc<ArcSwap<Judges>>,
    listener: Arc<str>,
    metrics: Metrics,
}

/// The judges of one listener's callers.
#[derive(Debug)]
pub struct Judges {
    /// Every JWT verifier of the server.
    pub jwt: Arc<JwtVerifiers>,
    /// Every operator credential of the server.
    pub operators: Arc<Operators>,
    /// Which of them are taken on this listener.
    pub callers: Callers,
    /// Every cluster of the server.
    pub clusters: Arc<Clusters>,
    /// Which of them are taken on this listener.
    pub taken: ListenerClusters,
    /// TLS client certificates, where the listener takes them.
    pub certificates: Option<CertificateCallers>,
}

/// A caller that is turned away, and the cluster whose word that is.
struct Refused {
    why: AuthnError,
    cluster: Option<String>,
}

impl From<AuthnError> for Refused {
    fn from(why: AuthnError) -> Self {
        Self { why, cluster: None }
    }
}

impl Gate {
    /// The gate of a listener, with these judges.
    pub fn new(listener: &str, judges: Judges, metrics: Metrics) -> Self {
        Self {
            judges: Arc::new(ArcSwap::from_pointee(judges)),
            listener: listener.into(),
            metrics,
        }
    }

    /// Other judges from the next call on.
    pub fn replace(&self, judges: Judges) {
        self.judges.store(Arc::new(judges));
    }

    /// The caller of a request. A credential in the header is judged alone: when it is rejected,
    /// no certificate of the connection can make up for it.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let judges = self.judges.load_full();
        self.counted(api, judges.caller(headers, peer, api).await)
    }

    /// The caller that a service account's token in the message itself is for. There is no other
    /// credential then, and the listener's one cluster judges.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn bearer_of(&self, token: &[u8], api: Api) -> Result<Caller, AuthnError> {
        let judges = self.judges.load_full();
        let verdict = match std::str::from_utf8(token) {
            Ok(token) => judges.token(token, &HeaderMap::new(), api).await,
            Err(_) => Err(AuthnError::rejected("the token is no text").into()),
        };
        self.counted(api, verdict)
    }

    /// The permission for `caller`, who called `api`, to have the identity of a workload on its node.
    ///
    /// # Errors
    /// [`NodeAuthorizationError`].
    pub async fn delegate(
        &self,
        caller: &Caller,
        asked: &str,
        api: Api,
    ) -> Result<Delegation, NodeAuthorizationError> {
        let judges = self.judges.load_full();
        let verdict = judges.clusters.authorize_node(caller, asked).await;
        verdict.inspect_err(|error| {
            let cluster = caller.cluster.as_deref().unwrap_or_default();
            let reason = delegation_reason(error);
            self.metrics.count(&self.listener, api, cluster, reason);
        })
    }

    fn counted(&self, api: Api, verdict: Result<Caller, Refused>) -> Result<Caller, AuthnError> {
        verdict.map_err(|Refused { why, cluster }| {
            let cluster = cluster.unwrap_or_default();
            self.metrics
                .count(&self.listener, api, &cluster, reason(&why));
            why
        })
    }
}

impl Judges {
    async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, Refused> {
        if let Some(token) = bearer(headers)? {
            return match Operators::judge(token) {
                true => {
                    let names = self.callers.operators();
                    Ok(self.operators.authenticate(token, names).await?)
                }
                false => self.token(token, headers, api).await,
            };
        }
        let leaf = peer.and_then(|peer| peer.certificates.first());
        match (&self.certificates, leaf) {
            (Some(certificates), Some(leaf)) => Ok(certificates.authenticate(leaf).await?),
            _ => Err(AuthnError::Missing.into()),
        }
    }

    /// A token that is no operator's has one judge: the verifier of its issuer, or else the cluster
    /// that the call names. Neither makes up for the other's no.
    async fn token(&self, token: &str, headers: &HeaderMap, api: Api) -> Result<Caller, Refused> {
        let verifiers = self.callers.jwt();
        if self.taken.is_empty() || self.jwt.claims_issuer_of(token, verifiers)? {
            return Ok(self.jwt.authenticate(token, api, verifiers).await?);
        }
        let cluster = self.clusters.select(&self.taken, cluster_id(headers)?)?;
        let verdict = cluster.authenticate(token, api).await;
        verdict.map_err(|why| Refused {
            why,
            cluster: Some(cluster.config().name().to_owned()),
        })
    }
}

/// The one `clusterid` of a call; empty when it has none.
fn cluster_id(headers: &HeaderMap) -> Result<&str, AuthnError> {
    let mut values = headers.get_all(CLUSTER_ID).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(""),
        (Some(value), None) => value
            .to_str()
            .map_err(|_| AuthnError::rejected("clusterid is not ASCII")),
        (Some(_), Some(_)) => Err(AuthnError::rejected("more than one clusterid header")),
    }
}

/// The token of the one `authorization` header, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthnError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AuthnError::rejected("more than one authorization header"));
    }
    let text = value
        .to_str()
        .map_err(|_| AuthnError::rejected("authorization is not ASCII"))?;
    authn::bearer(text).map(Some)
}

/// The request id: the caller's own when it is harmless in a log, else a random one.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    match given {
        Some(id) if harmless(id) => id.to_owned(),
        _ => random_id(),
    }
}

fn harmless(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn random_id() -> String {
    let mut bytes = [0_u8; 8];
    // Without randomness no serial could be made either: an id that repeats harms less than a
    // refusal here, ahead of the clear error there.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_bearer_token_or_a_rejection() {
        let mut headers = HeaderMap::new();
        assert!(bearer(&headers).unwrap().is_none());
        headers.append(AUTHORIZATION, "Bearer abc".parse().unwrap());
        assert_eq!(bearer(&headers).unwrap(), Some("abc"));
        headers.append(AUTHORIZATION, "Bearer def".parse().unwrap());
        assert!(bearer(&headers).is_err());
        headers.insert(AUTHORIZATION, "Basic abc".parse().unwrap());
        assert!(bearer(&headers).is_err());
    }

    #[test]
    fn one_cluster_id_or_a_rejection() {
        let mut headers = HeaderMap::new();
        assert_eq!(cluster_id(&headers).unwrap(), "");
        headers.append(CLUSTER_ID, "Kubernetes".parse().unwrap());
        assert_eq!(cluster_id(&headers).unwrap(), "Kubernetes");
        headers.append(CLUSTER_ID, "Kubernetes".parse().unwrap());
        assert!(cluster_id(&headers).is_err());
    }

    #[test]
    fn a_request_id_cannot_forge_a_log_line() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "abc-1.2_3".parse().unwrap());
        assert_eq!(request_id(&headers), "abc-1.2_3");
        headers.insert(REQUEST_ID, "a b=c".parse().unwrap());
        assert_eq!(request_id(&headers).len(), 16);
        headers.insert(REQUEST_ID, "a".repeat(65).parse().unwrap());
        assert_eq!(request_id(&headers).len(), 16);
    }
}
