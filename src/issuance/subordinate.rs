//! CAs below the issuing CA, for others that sign with a key of their own.

use std::sync::Arc;

use super::ca::CaCertificate;
use super::context::IssuanceContext;
use super::error::IssueError;
use super::issued::Issued;
use super::issuer::Issuer;
use super::pipeline::Prepared;
use super::request::IssuanceRequest;
use super::signable::{ReplayMismatch, Signable};
use crate::authn::Method;
use crate::ledger::Kind;
use crate::policy::Grant;
use crate::x509::{San, Serial, SignatureAlgorithm, TbsError, TrustBundle, TrustDomain, ca_name};

/// A subordinate CA's certificate to be signed.
pub(super) struct Subordinate {
    certificate: CaCertificate,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
}

impl Signable for Subordinate {
    type Out = Issued;

    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        Ok(Issued {
            certificate: self.certificate.check(tbs, signature, der)?,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        self.certificate.resume(tbs, algorithm)
    }
}

/// Why an issuing CA cannot certify another CA; [`path_len_remedy`] says what to do.
pub const NO_REMAINING_PATH_LEN: &str =
    "the issuing CA, or one above it, may have no further CA below it (pathLen 0)";

/// The commands that give `trust_domain` an issuing CA that may have a CA below it.
pub fn path_len_remedy(trust_domain: &TrustDomain) -> String {
    format!(
        "have your enterprise's CA certify one that may: `rootbridge ca request --trust-domain \
         {trust_domain} --path-len 1`, then `rootbridge ca import`; for a new authority, run \
         `rootbridge ca init --path-len 1`"
    )
}

/// Builds the TBSCertificate and its intent, and reserves a slot in the HSM's queue. The first name
/// is also the subject's common name. The CA may have no CA below it.
pub(super) fn prepare(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<Subordinate>, IssueError> {
    let domain = &request.caller.trust_domain;
    let refused = |why: String| IssueError::NotReady {
        trust_domain: domain.clone(),
        why,
    };
    // Policy decides on callers and names, not on what a certificate is for.
    if request.caller.method != Method::Local || request.idempotency_key.is_some() {
        return Err(refused("only this server has CAs certified".to_owned()));
    }
    let issuer = &context.issuer;
    if issuer.remaining_path_len() == Some(0) {
        let remedy = path_len_remedy(domain);
        return Err(refused(format!("{NO_REMAINING_PATH_LEN}: {remedy}")));
    }
    let permit = issuer.key().reserve()?;
    let (not_before, not_after) = context.validity(grant)?;
    let certificate = CaCertificate {
        serial: Serial::new(context.now),
        issuer: issuer.identity().clone(),
        issuer_key: issuer.key().public_key().clone(),
        issuer_not_after: Some(issuer.not_after()),
        subject_der: subject_der(grant.names())?,
        not_before,
        not_after,
        public_key: request.csr.public_key().clone(),
        path_len: Some(0),
        names: grant.names().to_vec(),
    };
    let tbs = certificate.template().to_tbs()?;
    let signed = (certificate.serial, tbs, (not_before, not_after));
    Ok(Prepared {
        intent: context.intent(Kind::Ca, grant, request, signed),
        in_flight: context.in_flight,
        permit,
        signable: Subordinate {
            certificate,
            issuer: context.issuer,
            bundle: context.bundle,
        },
    })
}

/// The first name, cut to the length of a common name: verifiers use the subjectAltName.
fn subject_der(names: &[San]) -> Result<Vec<u8>, TbsError> {
    let first = match names.first() {
        Some(San::Dns(name)) => name.as_str(),
        _ => return Err(TbsError::NoNames),
    };
    let short: String = first.chars().take(64).collect();
    ca_name(short.trim_end_matches('.'), None)
}
