//! `ca import`: checks and activates the certificate that the enterprise issued for `ca request`.

use super::examine::{Examined, is_in_use, own_certificate, published};
use super::options::ImportReport;
use super::{Ceremony, CeremonyError};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaCertificateRecord, CaRequestChange, CaRequestState, Change,
    IssuerId, IssuerState,
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
        let (certificate, authority, issuer) = own_certificate(certificates, &records, None)?;
        let domain = &authority.trust_domain;
        let published = published(Some(authority))?;
        let examined = self.examine(certificate, issuer, certificates, &published)?;
        if is_in_use(authority) && !published.contains(&examined.anchor) {
            return Err(CeremonyError::UnpublishedRoot {
                trust_domain: domain.clone(),
                subject: examined.anchor.subject(),
            });
        }
        let is_same = |row: &CaCertificateRecord| {
            row.state == IssuerState::Active
                && row.der == examined.certificate.der()
                && row.anchor == examined.anchor.fingerprint()
        };
        if issuer.certificates.iter().any(is_same) {
            return Ok(report(domain, &issuer.id, examined, None));
        }
        let mut changes = vec![self.activation(&issuer.id, &examined, "import")];
        // An operator's import is an answer to the request that is in flight for this key.
        let open = authority.open_request();
        if let Some(open) = open.filter(|open| open.issuer.as_ref() == Some(&issuer.id)) {
            changes.push(Change::Request(CaRequestChange::End {
                request: open.id,
                state: CaRequestState::Activated,
                reason: format!("imported by {}", self.actor.name),
            }));
        }
        let applied = self.change(Change::All(changes)).await?;
        let sequence = applied.bundles.first().map(|bundle| bundle.sequence);
        Ok(report(domain, &issuer.id, examined, sequence))
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

    /// Whether `certificates` hold a path from `certificate` to an anchor; nothing is changed.
    pub(super) fn check_path(
        &self,
        certificate: &Certificate,
        certificates: &[Certificate],
        authority: Option<&AuthorityRecord>,
    ) -> Result<(), CeremonyError> {
        let published = published(authority)?;
        self.find_path(certificate, certificates, &published)
            .map(drop)
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
    }
}
