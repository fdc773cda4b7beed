//! An issuing CA under an upstream CA's new root, while a rotation decides when it signs.

use super::examine::own_certificate;
use super::{Ceremony, CeremonyError};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaRequestChange, CaRequestRecord, CaRequestState, Change,
    IssuerId, IssuerState, Ledger, LedgerError, RotationChange, RotationKind, RotationPhase,
    RotationRecord,
};
use crate::x509::{Certificate, TrustDomain};

/// What an upstream CA has certified for a rotation.
#[derive(Debug)]
pub struct Arrived {
    pub issuer: IssuerId,
    pub anchor: Certificate,
    /// An operator has compared the root's fingerprint: it is published.
    pub is_approved: bool,
}

/// The rotation to an upstream CA's new root that is open and has not let it sign.
///
/// # Errors
/// The ledger's.
pub async fn rotation_that_waits(
    ledger: &dyn Ledger,
    domain: &TrustDomain,
) -> Result<Option<RotationRecord>, LedgerError> {
    let rotations = ledger.rotations().await?;
    let mut waiting = rotations.into_iter().filter(|rotation| {
        rotation.kind == RotationKind::UpstreamRoot
            && rotation.phase < RotationPhase::Activate
            && !rotation.backwards
    });
    Ok(waiting.find(|rotation| rotation.trust_domain == *domain))
}

/// The answer that is on record and waits, and its root.
pub fn received(authority: &AuthorityRecord) -> Option<(&CaRequestRecord, Arrived)> {
    let open = authority.open_request()?;
    let issuer = open.issuer.clone()?;
    let root = open.certificates.last()?;
    let anchor = Certificate::parse(root.as_slice()).ok()?;
    let sha256 = anchor.fingerprint();
    let mut anchors = authority
        .anchors
        .iter()
        .filter(|each| each.origin != AnchorOrigin::Foreign && each.state != IssuerState::Retired);
    let is_approved = anchors.any(|each| each.sha256 == sha256);
    let arrived = Arrived {
        issuer,
        anchor,
        is_approved,
    };
    (open.state == CaRequestState::Received).then_some((open, arrived))
}

impl Ceremony {
    /// The changes that let the issuing CA of a rotation sign: with the answer that waits, or with the
    /// certificate that was imported.
    ///
    /// # Errors
    /// The answer cannot be used any more.
    pub async fn arrival(
        &self,
        domain: &TrustDomain,
        issuer: &IssuerId,
    ) -> Result<Vec<Change>, CeremonyError> {
        let authority = self.ledger.authority(domain).await?;
        let authority = authority.ok_or_else(|| LedgerError::UnknownAuthority(domain.clone()))?;
        let open = authority.open_request();
        let open = open.filter(|open| {
            open.issuer.as_ref() == Some(issuer) && open.state == CaRequestState::Received
        });
        let Some(open) = open else {
            return Ok(vec![Change::SetIssuerState {
                issuer: issuer.clone(),
                state: IssuerState::Active,
            }]);
        };
        let certificates = open.certificates.iter();
        let certificates = certificates
            .map(|der| Certificate::parse(der.as_slice()))
            .collect::<Result<Vec<_>, _>>()?;
        let known = std::slice::from_ref(&authority);
        let (certificate, _, record) = own_certificate(&certificates, known, Some(issuer))?;
        let anchors = certificates.last().cloned().into_iter().collect::<Vec<_>>();
        let examined = self.examine(certificate, record.path_len, &certificates, &anchors)?;
        let reason = format!(
            "`{}` until {}",
            certificate.subject(),
            certificate.not_after()
        );
        Ok(vec![
            self.activation(issuer, &examined, &open.upstream),
            Change::Request(CaRequestChange::End {
                request: open.id,
                state: CaRequestState::Activated,
                reason,
            }),
        ])
    }
}

/// The change that tells a rotation what arrives.
pub(super) fn prepared(
    rotation: &RotationRecord,
    issuer: &IssuerId,
    anchor: &Certificate,
) -> Change {
    Change::Rotation(RotationChange::Prepared {
        rotation: rotation.id,
        new_issuer: issuer.clone(),
        new_anchor: anchor.fingerprint(),
    })
}
