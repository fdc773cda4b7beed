//! `ca import`: checks and activates the certificate that the enterprise issued for `ca request`.

use super::arriving::{prepared, rotation_that_waits};
use super::examine::{Examined, is_in_use, own_certificate, published};
use super::options::ImportReport;
use super::{Ceremony, CeremonyError};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaCertificateRecord, CaRequestChange, CaRequestState, Change,
    IssuerId, IssuerRecord, IssuerState, RotationPhase, RotationRecord,
};
use crate::x509::{Certificate, TrustDomain};

impl Ceremony {
    /// Imports the certificate that was issued for one of this server's keys, with those above it.
    /// `certificates` are in any order, and may hold others. The root may be missing if it is
    /// published. An error changes nothing.
    pub async fn import(
        &self,
        certificates: &[Certificate],
    ) -> Result<ImportReport, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let (certificate, authority, issuer) =
            own_certificate(certificates, &records.authorities, None)?;
        let domain = &authority.trust_domain;
        let requested = issuer.path_len;
        let rotation = rotation_that_waits(self.ledger.as_ref(), domain).await?;
        let rotation = rotation.filter(|rotation| {
            rotation.phase == RotationPhase::Prepare
                && rotation.parts.old_issuer.as_ref() != Some(&issuer.id)
        });
        if let Some(rotation) = rotation {
            let published = published(Some(authority))?;
            let examined = self.examine(certificate, requested, certificates, &published)?;
            if rotation.parts.old_anchor != Some(examined.anchor.fingerprint()) {
                return self.arrive(authority, issuer, examined, &rotation).await;
            }
        }
        let examined = self.examine_for(
            domain,
            Some(authority),
            (certificate, requested),
            certificates,
        )?;
        let is_same = |row: &&CaCertificateRecord| {
            row.state == IssuerState::Active
                && row.der == examined.certificate.der()
                && row.anchor == examined.anchor.fingerprint()
        };
        let recorded = issuer.certificates.iter().find(is_same);
        if recorded.is_some_and(|row| row.path == examined.intermediates()) {
            return Ok(report(domain, &issuer.id, examined, None));
        }
        let mut changes = vec![match recorded {
            // Another way up to the same anchor, such as one without a root that stands twice.
            Some(row) => Change::SetPath {
                certificate: row.id,
                path: examined.intermediates(),
            },
            None => self.activation(&issuer.id, &examined, "import"),
        }];
        changes.extend(self.answered(authority, &issuer.id));
        let applied = self.change(Change::All(changes)).await?;
        let sequence = applied.bundles.first().map(|bundle| bundle.sequence);
        Ok(report(domain, &issuer.id, examined, sequence))
    }

    /// An operator's import is an answer to the request that is in flight for this key.
    fn answered(&self, authority: &AuthorityRecord, issuer: &IssuerId) -> Option<Change> {
        let open = authority.open_request()?;
        (open.issuer.as_ref() == Some(issuer)).then(|| {
            Change::Request(CaRequestChange::End {
                request: open.id,
                state: CaRequestState::Activated,
                reason: format!("imported by {}", self.actor.name),
            })
        })
    }

    /// Publishes the root of what a rotation has waited for; the rotation says when it signs.
    async fn arrive(
        &self,
        authority: &AuthorityRecord,
        issuer: &IssuerRecord,
        examined: Examined,
        rotation: &RotationRecord,
    ) -> Result<ImportReport, CeremonyError> {
        let is_same = |row: &CaCertificateRecord| row.der == examined.certificate.der();
        let mut sequence = None;
        if !issuer.certificates.iter().any(is_same) {
            let mut changes = vec![
                Change::AddCaCertificate {
                    issuer: issuer.id.clone(),
                    der: examined.certificate.der().to_vec(),
                    path: examined.intermediates(),
                    anchor: examined.anchor.der().to_vec(),
                    origin: AnchorOrigin::Upstream,
                    source: format!("import by {}", self.actor.name),
                    activate: false,
                    retire: false,
                },
                prepared(rotation, &issuer.id, &examined.anchor),
            ];
            changes.extend(self.answered(authority, &issuer.id));
            let applied = self.change(Change::All(changes)).await?;
            sequence = applied.bundles.first().map(|bundle| bundle.sequence);
        }
        let domain = &authority.trust_domain;
        let mut report = report(domain, &issuer.id, examined, sequence);
        report.rotation = Some(rotation.id);
        Ok(report)
    }

    /// The change that makes the certificate active, with its issuer and anchor.
    pub(super) fn activation(&self, issuer: &IssuerId, examined: &Examined, how: &str) -> Change {
        Change::AddCaCertificate {
            issuer: issuer.clone(),
            der: examined.certificate.der().to_vec(),
            path: examined.intermediates(),
            anchor: examined.anchor.der().to_vec(),
            origin: AnchorOrigin::Upstream,
            source: format!("{how} by {}", self.actor.name),
            activate: true,
            retire: false,
        }
    }

    /// Examines a certificate for a key of `domain`, with the path length that was requested for it.
    /// Where certificates are issued already, its root must be published.
    pub(super) fn examine_for(
        &self,
        domain: &TrustDomain,
        authority: Option<&AuthorityRecord>,
        (certificate, requested): (&Certificate, Option<u8>),
        certificates: &[Certificate],
    ) -> Result<Examined, CeremonyError> {
        let published = published(authority)?;
        let examined = self.examine(certificate, requested, certificates, &published)?;
        match authority.is_some_and(is_in_use) && !published.contains(&examined.anchor) {
            true => Err(CeremonyError::UnpublishedRoot {
                trust_domain: domain.clone(),
                subject: examined.anchor.subject(),
            }),
            false => Ok(examined),
        }
    }
}

pub(super) fn report(
    domain: &TrustDomain,
    issuer: &IssuerId,
    examined: Examined,
    bundle_sequence: Option<u64>,
) -> ImportReport {
    ImportReport {
        trust_domain: domain.clone(),
        issuer: issuer.clone(),
        certificate: examined.certificate,
        anchor: examined.anchor,
        path: examined.path,
        warnings: examined.warnings,
        unused: examined.unused,
        bundle_sequence,
        rotation: None,
    }
}
