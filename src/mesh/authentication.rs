//! Authentication of callers, and the log of refusals: common to every API.

use std::error::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::reauthentication::ReauthenticationLog;
use super::refusals::{Metrics, RefusalLog, delegation_reason, reason};
use super::request_id::RequestId;
use crate::authn::{
    self, Api, AuthnError, Caller, Callers, CertificateVerifier, Identity, JwtVerifiers, Method,
    Operators,
};
use crate::cluster::{Clusters, ListenerClusters, NodeAuthorizationError};
use crate::net::Peer;
use crate::policy::NodeAuthorization;

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
    reauthentications: Arc<ReauthenticationLog>,
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
            reauthentications: Arc::default(),
        }
    }

    /// The listener's name in the configuration.
    pub(super) fn listener(&self) -> &str {
        &self.listener
    }

    /// Counts refusals of these APIs from zero.
    pub fn begin_counters(&self, apis: &[Api], clusters: &[String]) {
        self.metrics.begin(&self.listener, apis, clusters);
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
        let result = verifiers.authenticate(headers, peer, api).await;
        if let (Ok(caller), Some(certificates)) = (&result, &verifiers.certificates)
            && let Some(end) = certificates.renewals_end(caller)
        {
            self.metrics.count_due(&self.listener);
            self.reauthentications.tell(&self.listener, caller, end);
        }
        self.count_failure(api, result)
    }

    /// Authenticates a service account's token that the message itself holds (Linkerd), against the
    /// listener's one cluster.
    pub async fn authenticate_token(
        &self,
        token: &[u8],
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        let result = match std::str::from_utf8(token) {
            Ok(token) => {
                verifiers
                    .authenticate_bearer(token, || Ok(""), peer, api)
                    .await
            }
            Err(_) => Err(AuthnError::rejected("the token is not UTF-8").into()),
        };
        self.count_failure(api, result)
    }

    /// The operator with this credential; with `name`, that one only.
    pub async fn authenticate_operator(
        &self,
        credential: &str,
        name: Option<&str>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        let allowed = verifiers.callers.operators().iter();
        let allowed: Vec<String> = allowed
            .filter(|each| name.is_none_or(|name| name == *each))
            .cloned()
            .collect();
        let result = verifiers.operators.authenticate(credential, &allowed).await;
        self.count_failure(api, result.map_err(Failure::from))
    }

    /// Whether the listener accepts an operator of this name.
    pub fn has_operator(&self, name: &str) -> bool {
        let verifiers = self.verifiers.load();
        let mut operators = verifiers.callers.operators().iter();
        operators.any(|each| each == name)
    }

    /// Whether a cluster of the listener is called `name`.
    pub fn has_cluster(&self, name: &str) -> bool {
        let verifiers = self.verifiers.load();
        verifiers.clusters.select(&verifiers.accepted, name).is_ok()
    }

    /// Authenticates a token that the message itself holds: by the verifier of its issuer, or else by
    /// the cluster of that name, empty for the listener's default.
    pub async fn authenticate_jwt(
        &self,
        token: &str,
        cluster: &str,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        let result = verifiers
            .authenticate_bearer(token, || Ok(cluster), peer, api)
            .await;
        self.count_failure(api, result)
    }

    /// Authenticates the client certificate of the connection.
    pub async fn authenticate_certificate(
        &self,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, AuthnError> {
        let verifiers = self.verifiers.load_full();
        let result = verifiers.authenticate(&HeaderMap::new(), peer, api).await;
        self.count_failure(api, result)
    }

    /// Whether the listener still accepts who authenticated `caller`, for sessions that outlive a reload
    /// of the configuration.
    pub fn still_accepts(&self, caller: &Caller) -> bool {
        let verifiers = self.verifiers.load();
        let callers = &verifiers.callers;
        match (&caller.method, &caller.identity) {
            (Method::Operator, Identity::Operator(name)) => callers.operators().contains(name),
            (Method::Jwt { verifier, .. }, _) => callers.jwt().contains(verifier),
            (Method::Certificate { .. }, _) => callers
                .client_certificates()
                .is_some_and(|config| config.trust_domains().contains(&caller.trust_domain)),
            (Method::TokenReview | Method::ClusterKeys { .. }, _) => {
                let cluster = caller.cluster.as_deref();
                cluster.is_some_and(|name| verifiers.accepted.contains(name))
            }
            _ => false,
        }
    }

    /// Counts a credential that the API itself refuses.
    pub fn count_refused(&self, api: Api, error: &AuthnError) {
        self.metrics.count(&self.listener, api, "", reason(error));
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
    pub fn log_refusal(&self, call: &str, id: &RequestId, peer: Option<&Peer>, why: &dyn Error) {
        let (request_id, caller_request_id) = (&**id, id.callers());
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
            caller_request_id,
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
                false => {
                    let cluster = || cluster_id(headers);
                    self.authenticate_bearer(token, cluster, peer, api).await
                }
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
    async fn authenticate_bearer<'a>(
        &self,
        token: &str,
        cluster: impl FnOnce() -> Result<&'a str, AuthnError>,
        peer: Option<&Peer>,
        api: Api,
    ) -> Result<Caller, Failure> {
        let verifiers = self.callers.jwt();
        if self.accepted.is_empty() || self.jwt.claims_issuer_of(token, verifiers)? {
            return Ok(self.jwt.authenticate(token, api, verifiers).await?);
        }
        let cluster = self.clusters.select(&self.accepted, cluster()?)?;
        let peer = peer.map(|peer| peer.address.ip());
        let result = cluster.authenticate_from(token, api, peer).await;
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
}
