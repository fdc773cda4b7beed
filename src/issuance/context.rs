//! What is written down of a request before anything is signed for it.

use std::sync::Arc;

use super::epoch::InFlight;
use super::issuer::Issuer;
use super::leaf::IssuanceRequest;
use crate::authn::Method;
use crate::clock::UnixTime;
use crate::ledger::{CallerMethod, CallerRecord, Intent, Kind};
use crate::policy::Grant;
use crate::x509::{San, Serial, TrustBundle};

/// What a request finds when it is let in: all of one context.
pub(super) struct IssuanceContext {
    /// Who will sign.
    pub(super) issuer: Arc<Issuer>,
    /// What is answered beside the certificate.
    pub(super) bundle: Arc<TrustBundle>,
    /// In the boot epoch.
    pub(super) in_flight: InFlight,
    /// The context.
    pub(super) now: UnixTime,
}

impl IssuanceContext {
    /// The intent to sign a TBSCertificate with this serial number and validity.
    pub(super) fn intent(
        &self,
        kind: Kind,
        grant: &Grant,
        request: &IssuanceRequest,
        (serial, tbs, (not_before, not_after)): (Serial, Vec<u8>, (UnixTime, UnixTime)),
    ) -> Intent {
        let issuer = &self.issuer;
        Intent {
            kind,
            issuer: issuer.id().clone(),
            ca_certificate: Some(issuer.certificate_id()),
            serial: Some(serial),
            tbs,
            algorithm: issuer.identity().algorithm,
            not_before: Some(not_before),
            not_after: Some(not_after),
            subject: subject(grant.names()),
            profile: grant.profile().name().to_owned(),
            spki_sha256: request.csr.public_key().fingerprint(),
            bundle_digest: Some(self.bundle.digest()),
            caller: caller_record(request),
            request_id: request.request_id.clone(),
            epoch: self.in_flight.epoch().clone(),
            idempotency_key: request.idempotency_key.clone(),
            recorded_at: self.now,
        }
    }
}

/// The names as the ledger keeps them: the primary one first, joined by spaces, which no name
/// can contain.
fn subject(names: &[San]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn caller_record(request: &IssuanceRequest) -> CallerRecord {
    let caller = &request.caller;
    let (method, detail) = match &caller.method {
        Method::Jwt {
            verifier,
            issuer,
            key_id,
        } => {
            let key = key_id.as_deref().unwrap_or("-");
            (
                CallerMethod::Jwt,
                format!("{verifier} iss={issuer} kid={key}"),
            )
        }
        Method::Certificate { serial, .. } => (CallerMethod::Certificate, serial.to_string()),
        Method::TokenReview => (CallerMethod::TokenReview, String::new()),
        Method::ClusterKeys { issuer, key_id } => {
            let key = key_id.as_deref().unwrap_or("-");
            (CallerMethod::ClusterKeys, format!("iss={issuer} kid={key}"))
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
        // The workload did not come with a token itself: what its node's proxy got for it must not
        // renew itself after the pod has left that node.
        token_authenticated_at: match request.node_authorization {
            Some(_) => None,
            None => caller.token_authenticated_at,
        },
    }
}
