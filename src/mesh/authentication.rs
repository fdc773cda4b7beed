//! Authentication of callers, and the request id: common to every API.

use std::error::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::refusals::{Metrics, RefusalLog, delegation_reason, reason};
use crate::authn::{
    self, Api, AuthnError, Caller, Callers, CertificateVerifier, JwtVerifiers, Operators,
};
use crate::cluster::{Clusters, ListenerClusters, NodeAuthorizationError};
use crate::net::Peer;
use crate::policy::NodeAuthorization;

/// A caller may choose its request id in this header.
const REQUEST_ID: &str = "x-request-id";

/// Istio's agents name their cluster in this header.
const CLUSTER_ID: &str = "clusterid";

/// Authenticates the callers of one listener. Clones share its verifiers, which a reload of the
/// configuration replaces.
#[derive(Debug, Clone)]
pub struct CallerAuthenticator {
    verifiers: Arc<ArcSwap<Verifiers>>,
    listener: Arc<str>,
    metrics: Metrics,
    refusals: Arc<RefusalLog>,
}

/// The verifiers of one listener's callers.
#[derive(Debug)]
pub struct Verifiers {
    /// Every JWT verifier of the server.
    pub jwt: Arc<JwtVerifiers>,
    /// Every operator credential of the server.
    pub operators: Arc<Operators>,
    /// The verifiers and operators that this listener accepts.
    pub callers: Callers,
    /// Every cluster of the server.
    pub clusters: Arc<Clusters>,
    /// The clusters whose tokens this listener accepts.
    pub accepted: ListenerClusters,
    /// TLS client certificates, where the listener accepts them.
    pub certificates: Option<CertificateVerifier>,
}

/// A failed authentication, with the name of the cluster that verified the token, if one did.
struct Failure {
    error: AuthnError,
    cluster: Option<String>,
}

impl From<AuthnError> for Failure {
    fn from(error: AuthnError) -> Self {
        Self {
            error,
            cluster: None,
        }
    }
}

impl CallerAuthenticator {
    pub fn new(listener: &str, verifiers: Verifiers, metrics: Metrics) -> Self {
        Self {
            verifiers: Arc::new(ArcSwap::from_pointee(verifiers)),
            listener: listener.into(),
            metrics,
            refusals: Arc::default(),
        }
    }

    /// Replaces the verifiers; calls that have started finish with the old ones.
    pub fn replace(&self, verifiers: Verifiers) {
        self.verifiers.store(Arc::new(verifiers));
    }

    /// Authenticates a request. A credential in the header decides alone: when it is rejected, a
    /// client certificate does not replace it.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        self.count_failure(api, verifiers.authenticate(headers, peer, api).await)
    }

    /// Authenticates a service account's token that the message itself holds (Linkerd), against the
    /// listener's one cluster.
    pub async fn authenticate_token(&self, token: &[u8], api: Api) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        let result = match std::str::from_utf8(token) {
            Ok(token) => {
                let headers = HeaderMap::new();
                verifiers.authenticate_bearer(token, &headers, api).await
            }
            Err(_) => Err(AuthnError::rejected("the token is not UTF-8").into()),
        };
        self.count_failure(api, result)
    }

    /// Authorizes `caller`, a proxy of its node, to get a certificate for `identity`, a workload on
    /// the same node.
    pub async fn authorize_node_proxy(
        &self,
        caller: &Caller,
        identity: &str,
        api: Api,
    ) -> Result<NodeAuthorization, NodeAuthorizationError> {
        let verifiers = self.verifiers.load_full();
        let result = verifiers.clusters.authorize_node(caller, identity).await;
        result.inspect_err(|error| {
            let cluster = caller.cluster.as_deref().unwrap_or_default();
            let reason = delegation_reason(error);
            self.metrics.count(&self.listener, api, cluster, reason);
        })
    }

    /// Logs why a call is refused, which its caller learns only in part. The same reason is logged once
    /// a minute for each address.
    pub fn log_refusal(&self, call: &str, request_id: &str, peer: Option<&Peer>, why: &dyn Error) {
        let address = peer.map(|peer| peer.address);
        let text = why.to_string();
        let logged = self
            .refusals
            .allow(address.map(|address| address.ip()), &text);
        let Some(suppressed) = logged else {
            tracing::debug!(call, request_id, error = text, "a call is refused");
            return;
        };
        let listener = &*self.listener;
        let peer = address.map(|address| address.to_string());
        tracing::info!(
            listener,
            call,
            request_id,
            peer,
            error = text,
            suppressed,
            "a call is refused"
        );
    }

    fn count_failure(
        &self,
        api: Api,
        result: Result<Caller, Failure>,
    ) -> Result<Caller, AuthnError> {
        result.map_err(|Failure { error, cluster }| {
            let cluster = cluster.unwrap_or_default();
            self.metrics
                .count(&self.listener, api, &cluster, reason(&error));
            error
        })
    }
}

impl Verifiers {
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, Failure> {
        if let Some(token) = bearer(headers)? {
            return match Operators::is_operator_token(token) {
                true => {
                    let names = self.callers.operators();
                    Ok(self.operators.authenticate(token, names).await?)
                }
                false => self.authenticate_bearer(token, headers, api).await,
            };
        }
        let leaf = peer.and_then(|peer| peer.certificate.as_deref());
        match (&self.certificates, leaf) {
            (Some(certificates), Some(leaf)) => {
                let caller = certificates.authenticate(leaf).await?;
                let known = self.clusters.check_renewal(&caller).await;
                known.map_err(|error| Failure {
                    error,
                    cluster: caller.cluster.clone(),
                })?;
                Ok(caller)
            }
            _ => Err(AuthnError::Missing.into()),
        }
    }

    /// Verifies a token that is not an operator's with one verifier: that of its issuer, or else the
    /// cluster that the call names. When it rejects the token, no other verifier is tried.
    async fn authenticate_bearer(
        &self,
        token: &str,
        headers: &HeaderMap,
        api: Api,
    ) -> Result<Caller, Failure> {
        let verifiers = self.callers.jwt();
        if self.accepted.is_empty() || self.jwt.claims_issuer_of(token, verifiers)? {
            return Ok(self.jwt.authenticate(token, api, verifiers).await?);
        }
        let cluster = self.clusters.select(&self.accepted, cluster_id(headers)?)?;
        let result = cluster.authenticate(token, api).await;
        result.map_err(|error| Failure {
            error,
            cluster: Some(cluster.config().name().to_owned()),
        })
    }
}

/// The `clusterid` of a call; empty when it has none.
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

/// The bearer token of the `authorization` header.
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

/// The caller's request id when it is safe to log, else a random one.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let requested = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    match requested {
        Some(id) if is_loggable(id) => id.to_owned(),
        _ => random_id(),
    }
}

fn is_loggable(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn random_id() -> String {
    let mut bytes = [0_u8; 8];
    // Without randomness, making the serial fails with a clear error; a repeated id does no harm.
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
