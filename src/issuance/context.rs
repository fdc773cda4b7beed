//! What a request is issued with, and the intent that is recorded for it.

use std::sync::Arc;

use super::epoch::InFlight;
use super::error::IssueError;
use super::issuer::Issuer;
use super::request::IssuanceRequest;
use crate::authn::{Caller, Method};
use crate::clock::UnixTime;
use crate::ledger::{CallerMethod, CallerRecord, Intent, Kind};
use crate::policy::Grant;
use crate::x509::{CertificateSpec, San, TrustBundle};

/// The state that one request is issued with. It is read once, so its parts belong together.
pub(super) struct IssuanceContext {
    pub(super) issuer: Arc<Issuer>,
    /// Returned with the certificate.
    pub(super) bundle: Arc<TrustBundle>,
    pub(super) in_flight: InFlight,
    pub(super) now: UnixTime,
}

impl IssuanceContext {
    /// notBefore and notAfter of a certificate issued now.
    pub(super) fn validity(&self, grant: &Grant) -> Result<(UnixTime, UnixTime), IssueError> {
        let backdate = grant.profile().backdate();
        self.issuer.validity(self.now, grant.ttl(), backdate)
    }

    /// The intent to sign `tbs`, the encoding of `spec`.
    pub(super) fn intent(
        &self,
        kind: Kind,
        grant: &Grant,
        request: &IssuanceRequest,
        spec: &CertificateSpec,
        tbs: Vec<u8>,
    ) -> Intent {
        let issuer = &self.issuer;
        Intent {
            kind,
            issuer: issuer.id().clone(),
            ca_certificate: Some(issuer.certificate_id()),
            serial: Some(spec.serial),
            tbs,
            algorithm: spec.issuer.algorithm,
            not_before: Some(spec.not_before),
            not_after: Some(spec.not_after),
            subject: subject(&spec.names),
            profile: grant.profile().name().to_owned(),
            spki_sha256: spec.public_key.fingerprint(),
            bundle_digest: Some(self.bundle.digest()),
            // The workload did not present a token itself. A certificate that its node's proxy
            // obtained must not be renewable after the pod has left the node.
            caller: match request.node_authorization {
                Some(_) => CallerRecord {
                    token_authenticated_at: None,
                    ..caller_record(&request.caller)
                },
                None => caller_record(&request.caller),
            },
            request_id: request.request_id.clone(),
            epoch: self.in_flight.epoch().clone(),
            idempotency_key: request.idempotency_key.clone(),
            recorded_at: self.now,
            lease: request.lease.clone(),
        }
    }
}

/// The names as the ledger stores them: the primary one first, joined by spaces, which no name
/// contains.
fn subject(names: &[San]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

pub(super) fn caller_record(caller: &Caller) -> CallerRecord {
    let signed_by = |issuer: &str, key_id: &Option<String>| {
        format!("iss={issuer} kid={}", key_id.as_deref().unwrap_or("-"))
    };
    let (method, detail) = match &caller.method {
        Method::Jwt {
            verifier,
            issuer,
            key_id,
        } => (
            CallerMethod::Jwt,
            format!("{verifier} {}", signed_by(issuer, key_id)),
        ),
        Method::Certificate { serial, .. } => (CallerMethod::Certificate, serial.to_string()),
        Method::TokenReview => (CallerMethod::TokenReview, String::new()),
        Method::ClusterKeys { issuer, key_id } => {
            (CallerMethod::ClusterKeys, signed_by(issuer, key_id))
        }
        Method::Operator => (CallerMethod::Operator, String::new()),
        Method::Local => (CallerMethod::Local, String::new()),
        Method::Object { kind, uid } => (CallerMethod::Object, format!("{kind} {uid}")),
    };
    let pod = caller.pod.as_ref();
    CallerRecord {
        trust_domain: caller.trust_domain.clone(),
        identity: caller.identity.to_string(),
        method,
        detail,
        cluster: caller.cluster.clone(),
        pod: pod.map(|pod| format!("{}/{} {}", pod.namespace, pod.name, pod.uid)),
        node: caller.node.clone(),
        token_authenticated_at: caller.token_authenticated_at,
    }
}
