//! A CA below the issuing CA, whose key this server makes for somebody who signs by himself.

use std::sync::Arc;

use super::ca::CaCertificate;
use super::door::Prepared;
use super::error::IssueError;
use super::issuer::Issuer;
use super::leaf::{Issued, LeafRequest, validity};
use super::product::{Product, Unfit};
use super::record::Moment;
use crate::authn::Method;
use crate::ledger::Kind;
use crate::policy::Grant;
use crate::x509::{San, Serial, SignatureAlgorithm, TbsError, TrustBundle, TrustDomain, ca_name};

/// A CA certificate on its way through the door, with what is answered beside it.
pub(super) struct Subordinate {
    certificate: CaCertificate,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
}

impl Product for Subordinate {
    type Out = Issued;

    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        Ok(Issued {
            certificate: self.certificate.check(tbs, signature, der)?,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn adopt(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), Unfit> {
        self.certificate.adopt(tbs, algorithm)
    }
}

/// Why an issuing CA cannot make another below it; [`make_room`] says what mends that.
pub const NO_ROOM: &str =
    "the issuing CA, or one above it, may have no further CA below it (pathLen 0)";

/// The commands that lead to an issuing CA of `trust_domain` that may have a CA below it.
pub fn make_room(trust_domain: &TrustDomain) -> String {
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
    request: &LeafRequest,
    moment: Moment,
) -> Result<Prepared<Subordinate>, IssueError> {
    let domain = &request.caller.trust_domain;
    let refused = |why: String| IssueError::NotReady {
        trust_domain: domain.clone(),
        why,
    };
    // Policy knows names and callers, not what a certificate is for.
    if request.caller.method != Method::Local || request.origin.is_some() {
        return Err(refused("only this server has CAs certified".to_owned()));
    }
    let issuer = &moment.issuer;
    if issuer.room_below() == Some(0) {
        return Err(refused(format!("{NO_ROOM}: {}", make_room(domain))));
    }
    let permit = issuer.key().reserve()?;
    let (not_before, not_after) = validity(grant, issuer, moment.now)?;
    let certificate = CaCertificate {
        serial: Serial::new(moment.now),
        issuer: issuer.identity().clone(),
        issuer_key: issuer.key().public_key().clone(),
        issuer_not_after: Some(issuer.ends()),
        subject_der: name(grant.names())?,
        not_before,
        not_after,
        public_key: request.csr.public_key().clone(),
        path_len: Some(0),
        names: grant.names().to_vec(),
    };
    let tbs = certificate.template().to_tbs()?;
    let signed = (certificate.serial, tbs, (not_before, not_after));
    let intent = moment.intent(Kind::Ca, grant, request, signed);
    Ok(Prepared {
        place: moment.place,
        intent,
        permit,
        product: Subordinate {
            certificate,
            issuer: moment.issuer,
            bundle: moment.bundle,
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
    ca_name(short.trim_end_matches('.'), None)
}
