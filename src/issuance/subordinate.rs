//! CAs below the issuing CA, for others that sign with a key of their own.

use super::context::IssuanceContext;
use super::error::IssueError;
use super::pipeline::Prepared;
use super::request::IssuanceRequest;
use super::requested_certificate::{self, RequestedCertificate};
use crate::authn::Method;
use crate::digest::hex;
use crate::ledger::Kind;
use crate::policy::{Denial, Grant};
use crate::x509::{San, SubjectSpec, TbsError, TrustDomain, ca_name};

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

/// Prepares a CA certificate. The first name is also the subject's common name. The CA may have no CA
/// below it.
pub(super) fn prepare(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<RequestedCertificate>, IssueError> {
    let domain = &request.caller.trust_domain;
    let refused = |why: String| IssueError::NotReady {
        trust_domain: domain.clone(),
        why,
    };
    // Policy decides on callers and names, not on what a certificate is for.
    if request.caller.method != Method::Local || request.idempotency_key.is_some() {
        return Err(refused("only this server has CAs certified".to_owned()));
    }
    if context.issuer.remaining_path_len() == Some(0) {
        let remedy = path_len_remedy(domain);
        return Err(refused(format!("{NO_REMAINING_PATH_LEN}: {remedy}")));
    }
    let subject = SubjectSpec::Ca {
        name_der: name_der(grant.names())?,
        path_len: Some(0),
    };
    requested_certificate::prepare(Kind::Ca, subject, grant, request, context)
}

/// Prepares the certificate of a CA that a caller requests, under a profile for CAs. Its subject is made
/// here, from its key and the trust domain.
pub(super) fn prepare_requested(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<RequestedCertificate>, IssueError> {
    let (domain, profile) = (&request.caller.trust_domain, grant.profile());
    let path_len = profile
        .ca_path_len()
        .ok_or_else(|| Denial::NotForCas(profile.name().to_owned()))?;
    let path_len = match context.issuer.remaining_path_len() {
        Some(0) => {
            return Err(IssueError::NotReady {
                trust_domain: domain.clone(),
                why: format!("{NO_REMAINING_PATH_LEN}: {}", path_len_remedy(domain)),
            });
        }
        Some(remaining) => path_len.min(remaining - 1),
        None => path_len,
    };
    let key = hex(&request.csr.public_key().key_id());
    let common_name: String = format!("CA {} of {domain}", key.get(..16).unwrap_or(&key))
        .chars()
        .take(64)
        .collect();
    let subject = SubjectSpec::OtherCa {
        name_der: ca_name(&common_name, None).map_err(TbsError::from)?,
        path_len: Some(path_len),
    };
    requested_certificate::prepare(Kind::Ca, subject, grant, request, context)
}

/// The first name, cut to the length of a common name: verifiers use the subjectAltName.
fn name_der(names: &[San]) -> Result<Vec<u8>, TbsError> {
    let first = match names.first() {
        Some(San::Dns(name)) => name.as_str(),
        _ => return Err(TbsError::NoNames),
    };
    let short: String = first.chars().take(64).collect();
    Ok(ca_name(short.trim_end_matches('.'), None)?)
}
