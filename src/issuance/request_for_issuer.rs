//! A certification request for the active issuing key, for callers that have it certified elsewhere.

use super::admission::share_of;
use super::authorities::Authorities;
use super::ca::Request;
use super::context::caller_record;
use super::error::IssueError;
use super::pipeline::Prepared;
use crate::authn::Caller;
use crate::ledger::{Intent, Kind};
use crate::x509::request_info;

impl Authorities {
    /// A certification request (DER) for the active issuing key of the caller's trust domain, with the
    /// subject that its certificate has.
    pub async fn certification_request(
        &self,
        caller: &Caller,
        request_id: &str,
    ) -> Result<Vec<u8>, IssueError> {
        let (issuer, _) = self.authority(&caller.trust_domain)?.active_issuer()?;
        let (key, certificate) = (issuer.key(), issuer.certificate());
        let info = request_info(
            certificate.subject_der(),
            key.public_key(),
            certificate.path_len(),
        )?;
        let permit = key.reserve_for(share_of(caller))?;
        let in_flight = self.pipeline().begin();
        let intent = Intent {
            kind: Kind::Request,
            issuer: issuer.id().clone(),
            ca_certificate: None,
            serial: None,
            tbs: info,
            algorithm: key.algorithm(),
            not_before: None,
            not_after: None,
            subject: certificate.subject(),
            profile: "ca".to_owned(),
            spki_sha256: key.public_key().fingerprint(),
            bundle_digest: None,
            caller: caller_record(caller),
            request_id: request_id.to_owned(),
            epoch: in_flight.epoch().clone(),
            idempotency_key: None,
            recorded_at: self.now(),
            lease: None,
        };
        let signable = Request {
            public_key: key.public_key().clone(),
            algorithm: key.algorithm(),
        };
        let prepared = Prepared {
            in_flight,
            intent,
            permit,
            signable,
        };
        self.pipeline().run(prepared, |_| {}).await
    }
}
