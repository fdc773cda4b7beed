//! A CA below the issuing CA, whose key this server makes for somebody who signs by himself.

use std::sync::Arc;

use super::context::IssuanceContext;
use super::error::IssueError;
use super::issuer::Issuer;
use super::leaf::{IssuanceRequest, Issued, validity};
use super::pipeline::Prepared;
use super::signable::{ReplayMismatch, Signable};
use crate::authn::Method;
use crate::ledger::Kind;
use crate::policy::Grant;
use crate::x509::{
    CertificateSpec, San, Serial, SignatureAlgorithm, SubjectSpec, TbsError, TrustBundle,
    TrustDomain, ca_name,
};

/// A CA certificate on its way through the pipeline, with what is answered beside it.
pub(super) struct Subordinate {
    spec: CertificateSpec,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
}

impl Signable for Subordinate {
    type Out = Issued;

    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        Ok(Issued {
            certificate: self.spec.check(tbs, signature, der)?,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        self.spec.resume(tbs, algorithm)
    }
}

/// Why an issuing CA cannot make another below it; [`path_len_remedy`] says what mends that.
pub const NO_REMAINING_PATH_LEN: &str =
    "the issuing CA, or one above it, may have no further CA below it (pathLen 0)";

/// The commands that lead to an issuing CA of `trust_domain` that may have a CA below it.
pub fn path_len_remedy(trust_domain: &TrustDomain) -> String {
    format!(
        "have your enterprise's CA certify one that may: `rootbridge ca request --trust-domain \
         {trust_domain} --path-len 1`, then `rootbridge ca import`; a new authority is made so with \
         `rootbridge ca init --path-len 1`"
    )
}

/// Builds the TBSCertificate and its intent, and holds a place in the HSM's queue for it. The first
/// name is the subject's common name too; no CA may stand below this one.
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
    // Policy knows names and callers, not what a certificate is for.
    if request.caller.method != Method::Local || request.idempotency_key.is_some() {
        return Err(refused("only this server has CAs certified".to_owned()));
    }
    let issuer = &context.issuer;
    if issuer.remaining_path_len() == Some(0) {
        return Err(refused(format!(
            "{NO_REMAINING_PATH_LEN}: {}",
            path_len_remedy(domain)
        )));
    }
    let permit = issuer.key().reserve()?;
    let (not_before, not_after) = validity(grant, issuer, context.now)?;
    let spec = CertificateSpec {
        serial: Serial::new(context.now),
        issuer: Arc::clone(issuer.identity()),
        not_before,
        not_after,
        names: grant.names().to_vec(),
        public_key: request.csr.public_key().clone(),
        subject: SubjectSpec::Ca {
            name_der: name(grant.names())?,
            path_len: Some(0),
        },
    };
    let tbs = spec.to_tbs()?;
    let signed = (spec.serial, tbs, (not_before, not_after));
    let intent = context.intent(Kind::Ca, grant, request, signed);
    Ok(Prepared {
        in_flight: context.in_flight,
        intent,
        permit,
        signable: Subordinate {
            spec,
            issuer: context.issuer,
            bundle: context.bundle,
        },
    })
}

/// The subject: the first name, or as much of its beginning as a common name may hold; verifiers go
/// by the subjectAltName.
fn name(names: &[San]) -> Result<Vec<u8>, TbsError> {
    let first = match names.first() {
        Some(San::Dns(name)) => name.as_str(),
        _ => return Err(TbsError::NoNames),
    };
    let short: String = first.chars().take(64).collect();
    Ok(ca_name(short.trim_end_matches('.'), None)?)
}
