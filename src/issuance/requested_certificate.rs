//! A certificate that a caller requests: a leaf, or a subordinate CA's.

use std::sync::Arc;
use std::time::Duration;

use super::admission::share_of;
use super::context::IssuanceContext;
use super::error::IssueError;
use super::issued::Issued;
use super::issuer::Issuer;
use super::pipeline::Prepared;
use super::request::IssuanceRequest;
use super::signable::{ReplayMismatch, Signable};
use crate::clock::UnixTime;
use crate::ledger::Kind;
use crate::policy::{Denial, Grant};
use crate::x509::{
    Certificate, CertificateSpec, Serial, SignatureAlgorithm, SubjectSpec, TrustBundle, assemble,
};

/// A certificate to be signed for a request.
pub(super) struct RequestedCertificate {
    spec: CertificateSpec,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
    requested_at: UnixTime,
    backdate: Duration,
}

impl Signable for RequestedCertificate {
    type Out = Issued;

    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        let certificate = self.spec.check(tbs, signature, der)?;
        self.issuer.check_names(&certificate)?;
        Ok(Issued {
            certificate,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        let spec = &mut self.spec;
        // Parsed for its fields only: the signature is a placeholder.
        let recorded = assemble(tbs, algorithm, &[0])
            .and_then(Certificate::parse)
            .map_err(|_| ReplayMismatch::DifferentRequest)?;
        let requested_life = spec.not_after.since(spec.not_before);
        let recorded_life = recorded.not_after().since(recorded.not_before());
        // If the issuer's validity cut one of them short, the lifetimes do not tell the requests
        // apart.
        let (earliest, latest) = (self.issuer.not_before(), self.issuer.not_after());
        let is_cut = |not_before, not_after| not_before == earliest || not_after == latest;
        let comparable = !is_cut(spec.not_before, spec.not_after)
            && !is_cut(recorded.not_before(), recorded.not_after());
        spec.serial = *recorded.serial();
        spec.not_before = recorded.not_before();
        spec.not_after = recorded.not_after();
        // With the recorded serial number and validity, the same request has the same bytes.
        let same_bytes = spec.to_tbs().is_ok_and(|own| own == tbs);
        if !same_bytes || (comparable && requested_life != recorded_life) {
            return Err(ReplayMismatch::DifferentRequest);
        }
        match spec.not_after.since(self.requested_at) < self.backdate * 2 {
            true => Err(ReplayMismatch::Expired),
            false => Ok(()),
        }
    }
}

/// Prepares an end entity's certificate.
pub(super) fn prepare_leaf(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<RequestedCertificate>, IssueError> {
    let profile = grant.profile();
    if profile.ca_path_len().is_some() {
        return Err(Denial::OnlyForCas(profile.name().to_owned()).into());
    }
    let subject = SubjectSpec::EndEntity(profile.usage());
    prepare(Kind::Leaf, subject, grant, request, context)
}

/// Builds the TBSCertificate and its intent, and reserves a slot in the HSM's queue.
pub(super) fn prepare(
    kind: Kind,
    subject: SubjectSpec,
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<RequestedCertificate>, IssueError> {
    for name in grant.names() {
        if let Some(why) = context.issuer.name_ruled_out(name) {
            let name = name.to_string();
            return Err(IssueError::NameRuledOut { name, why });
        }
    }
    let permit = context
        .issuer
        .key()
        .reserve_for(share_of(&request.caller))?;
    let (not_before, not_after) = context.validity(grant)?;
    let spec = CertificateSpec {
        serial: Serial::new(context.now),
        issuer: Arc::clone(context.issuer.identity()),
        not_before,
        not_after,
        names: grant.names().to_vec(),
        public_key: request.csr.public_key().clone(),
        subject,
    };
    let tbs = spec.to_tbs()?;
    Ok(Prepared {
        intent: context.intent(kind, grant, request, &spec, tbs),
        in_flight: context.in_flight,
        permit,
        signable: RequestedCertificate {
            spec,
            issuer: context.issuer,
            bundle: context.bundle,
            requested_at: context.now,
            backdate: grant.profile().backdate(),
        },
    })
}
