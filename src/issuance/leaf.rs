//! Leaf certificates.

use std::sync::Arc;
use std::time::Duration;

use super::context::IssuanceContext;
use super::error::IssueError;
use super::issued::Issued;
use super::issuer::Issuer;
use super::pipeline::Prepared;
use super::request::IssuanceRequest;
use super::signable::{ReplayMismatch, Signable};
use crate::clock::UnixTime;
use crate::ledger::Kind;
use crate::policy::Grant;
use crate::x509::{
    Certificate, Expected, ExtendedKeyUsage, LeafTemplate, PublicKey, San, Serial,
    SignatureAlgorithm, TrustBundle, assemble, check_issued,
};

/// A leaf certificate to be signed.
pub(super) struct Leaf {
    serial: Serial,
    not_before: UnixTime,
    not_after: UnixTime,
    names: Vec<San>,
    usage: ExtendedKeyUsage,
    public_key: PublicKey,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
    requested_at: UnixTime,
    backdate: Duration,
}

impl Leaf {
    fn template(&self) -> LeafTemplate<'_> {
        LeafTemplate {
            serial: &self.serial,
            issuer: self.issuer.identity(),
            not_before: self.not_before,
            not_after: self.not_after,
            names: &self.names,
            public_key: &self.public_key,
            usage: self.usage,
        }
    }
}

impl Signable for Leaf {
    type Out = Issued;

    fn check(self, tbs: &[u8], _: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        let certificate = Certificate::parse_with_key(der, Some(&self.public_key))?;
        let expected = Expected::leaf(&self.template(), self.issuer.not_after());
        check_issued(&certificate, tbs, self.issuer.key().public_key(), &expected)?;
        Ok(Issued {
            certificate,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        // Parsed for its fields only: the signature is a placeholder.
        let recorded = assemble(tbs, algorithm, &[0])
            .and_then(Certificate::parse)
            .map_err(|_| ReplayMismatch::DifferentRequest)?;
        let requested_life = self.not_after.since(self.not_before);
        let recorded_life = recorded.not_after().since(recorded.not_before());
        // If the issuer's validity cut one of them short, the lifetimes do not tell the requests
        // apart.
        let (earliest, latest) = (self.issuer.not_before(), self.issuer.not_after());
        let is_cut = |not_before, not_after| not_before == earliest || not_after == latest;
        let comparable = !is_cut(self.not_before, self.not_after)
            && !is_cut(recorded.not_before(), recorded.not_after());
        self.serial = *recorded.serial();
        self.not_before = recorded.not_before();
        self.not_after = recorded.not_after();
        // With the recorded serial number and validity, the same request has the same bytes.
        let same_bytes = self.template().to_tbs().is_ok_and(|own| own == tbs);
        if !same_bytes || (comparable && requested_life != recorded_life) {
            return Err(ReplayMismatch::DifferentRequest);
        }
        match self.not_after.since(self.requested_at) < self.backdate * 2 {
            true => Err(ReplayMismatch::Expired),
            false => Ok(()),
        }
    }
}

/// Builds the TBSCertificate and its intent, and reserves a slot in the HSM's queue.
pub(super) fn prepare(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<Leaf>, IssueError> {
    let permit = context.issuer.key().reserve()?;
    let (not_before, not_after) = context.validity(grant)?;
    let leaf = Leaf {
        serial: Serial::new(context.now),
        not_before,
        not_after,
        names: grant.names().to_vec(),
        usage: grant.profile().usage(),
        public_key: request.csr.public_key().clone(),
        issuer: Arc::clone(&context.issuer),
        bundle: Arc::clone(&context.bundle),
        requested_at: context.now,
        backdate: grant.profile().backdate(),
    };
    let tbs = leaf.template().to_tbs()?;
    let signed = (leaf.serial, tbs, (not_before, not_after));
    Ok(Prepared {
        intent: context.intent(Kind::Leaf, grant, request, signed),
        in_flight: context.in_flight,
        permit,
        signable: leaf,
    })
}
