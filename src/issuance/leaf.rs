//! Leaf certificates: what is asked, how its TBSCertificate comes to be, what is answered.

use std::sync::Arc;
use std::time::Duration;

use super::context::IssuanceContext;
use super::error::IssueError;
use super::issuer::Issuer;
use super::pipeline::Prepared;
use super::signable::{ReplayMismatch, Signable};
use crate::authn::Caller;
use crate::clock::UnixTime;
use crate::ledger::Kind;
use crate::policy::{Grant, NodeAuthorization, Scope};
use crate::x509::{
    Certificate, CertificateSpec, Csr, LinkerdMesh, San, Serial, SignatureAlgorithm, SubjectSpec,
    TrustBundle, assemble,
};

/// What an API calls a workload by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Naming {
    /// By its SPIFFE ID.
    #[default]
    Spiffe,
    /// By its DNS name in a Linkerd mesh.
    Linkerd(LinkerdMesh),
}

/// A caller's wish, as every API puts it.
#[derive(Debug)]
pub struct IssuanceRequest {
    /// Who asks.
    pub caller: Caller,
    /// Whose key it is for.
    pub csr: Csr,
    /// The profile by name; empty for the default.
    pub profile: String,
    /// Names stated beside the CSR.
    pub names: Vec<San>,
    /// The lifetime wished for.
    pub ttl: Option<Duration>,
    /// Which names can be meant.
    pub scope: Scope,
    /// What the caller's own name is like.
    pub naming: Naming,
    /// The permission to have another identity than the caller's own, for a node's proxy.
    pub node_authorization: Option<NodeAuthorization>,
    /// An idempotency key, unique within the caller's identity.
    pub idempotency_key: Option<String>,
    /// Stands in the log, the ledger and the answer.
    pub request_id: String,
}

/// A certificate that is concluded in the ledger, with what is answered beside it. All parts are
/// of one context: they verify together whatever happens to the authority meanwhile.
#[derive(Debug)]
pub struct Issued {
    pub(super) certificate: Certificate,
    pub(super) issuer: Arc<Issuer>,
    pub(super) bundle: Arc<TrustBundle>,
}

impl Issued {
    /// The leaf.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The intermediates, from the leaf's issuer up to, but without, the trust anchor.
    pub fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        self.issuer.path()
    }

    /// The issuer that signed it.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The trust bundle of the leaf's trust domain.
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }
}

/// A leaf on its way through the pipeline: what it must turn out to be.
pub(super) struct Leaf {
    spec: CertificateSpec,
    issuer: Arc<Issuer>,
    bundle: Arc<TrustBundle>,
    asked_at: UnixTime,
    backdate: Duration,
}

impl Signable for Leaf {
    type Out = Issued;

    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Issued, IssueError> {
        let certificate = self.spec.check(tbs, signature, der)?;
        Ok(Issued {
            certificate,
            issuer: self.issuer,
            bundle: self.bundle,
        })
    }

    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        let spec = &mut self.spec;
        // Read for its fields alone: the signature is none.
        let recorded = assemble(tbs, algorithm, &[0])
            .and_then(Certificate::parse)
            .map_err(|_| ReplayMismatch::DifferentRequest)?;
        let life = |from: UnixTime, to: UnixTime| to.since(from);
        let asked = life(spec.not_before, spec.not_after);
        let had = life(recorded.not_before(), recorded.not_after());
        // Cut short by the issuer's own life, the same wish has another life at another time.
        let (begins, ends) = (self.issuer.begins(), self.issuer.ends());
        let cut = |from, to| from == begins || to == ends;
        let comparable = !cut(spec.not_before, spec.not_after)
            && !cut(recorded.not_before(), recorded.not_after());
        spec.serial = *recorded.serial();
        spec.not_before = recorded.not_before();
        spec.not_after = recorded.not_after();
        // With the earlier serial number and time, the same wish has the same bytes.
        if spec.to_tbs().ok().as_deref() != Some(tbs) || (comparable && asked != had) {
            return Err(ReplayMismatch::DifferentRequest);
        }
        match spec.not_after.since(self.asked_at) < self.backdate * 2 {
            true => Err(ReplayMismatch::Expired),
            false => Ok(()),
        }
    }
}

/// notBefore and notAfter of a leaf that is issued at `now`.
pub(super) fn validity(
    grant: &Grant,
    issuer: &Issuer,
    now: UnixTime,
) -> Result<(UnixTime, UnixTime), IssueError> {
    let backdate = grant.profile().backdate();
    if grant.ttl() < (backdate * 2).max(Duration::from_secs(1)) {
        return Err(IssueError::TtlTooShort {
            asked: grant.ttl(),
            backdate,
        });
    }
    let not_before = now.minus(backdate).max(issuer.begins());
    let not_after = now.plus(grant.ttl()).min(issuer.ends());
    // A client that renews at the middle of notBefore..notAfter finds that middle in the past
    // when what lies ahead is shorter than what lies behind.
    let left = not_after.since(now);
    if left < backdate * 2 || left.is_zero() {
        return Err(IssueError::IssuerExpiring { left, backdate });
    }
    Ok((not_before, not_after))
}

/// Builds the TBSCertificate and its intent, and holds a place in the HSM's queue for it.
pub(super) fn prepare(
    grant: &Grant,
    request: &IssuanceRequest,
    context: IssuanceContext,
) -> Result<Prepared<Leaf>, IssueError> {
    let permit = context.issuer.key().reserve()?;
    let (not_before, not_after) = validity(grant, &context.issuer, context.now)?;
    let spec = CertificateSpec {
        serial: Serial::new(context.now),
        issuer: Arc::clone(context.issuer.identity()),
        not_before,
        not_after,
        names: grant.names().to_vec(),
        public_key: request.csr.public_key().clone(),
        subject: SubjectSpec::EndEntity(grant.profile().usage()),
    };
    let tbs = spec.to_tbs()?;
    let signed = (spec.serial, tbs, (not_before, not_after));
    let signable = Leaf {
        spec,
        issuer: Arc::clone(&context.issuer),
        bundle: Arc::clone(&context.bundle),
        asked_at: context.now,
        backdate: grant.profile().backdate(),
    };
    let intent = context.intent(Kind::Leaf, grant, request, signed);
    Ok(Prepared {
        in_flight: context.in_flight,
        intent,
        permit,
        signable,
    })
}
