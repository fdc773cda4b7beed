//! `ca import`: checks and activates the certificate that the enterprise issued for `ca request`.

use super::options::ImportReport;
use super::{Ceremony, CeremonyError, issuer_id};
use crate::ledger::{AnchorOrigin, CaCertificateRecord, Change, IssuerRecord, IssuerState, Role};
use crate::x509::{Certificate, parse_pem_chain, verify_ca_path};

impl Ceremony {
    /// Imports a chain: issuing certificate first, its root last. An error changes nothing.
    pub async fn import(&self, chain_pem: &[u8]) -> Result<ImportReport, CeremonyError> {
        let chain = parse_pem_chain(chain_pem)?;
        let records = self.ledger.snapshot().await?;
        let certificate = chain.first().ok_or(CeremonyError::UnknownKey {
            subject: String::new(),
        })?;
        let id = issuer_id(certificate.public_key());
        let own_issuer = records
            .issuer(&id)
            .filter(|(_, issuer)| issuer.role == Role::Issuing)
            .filter(|(_, issuer)| issuer.state != IssuerState::Retired);
        let (authority, issuer) = own_issuer.ok_or_else(|| CeremonyError::UnknownKey {
            subject: certificate.subject(),
        })?;
        let domain = &authority.trust_domain;

        let published = authority.bundle.iter().flat_map(|bundle| &bundle.anchors);
        let published = published
            .map(|der| Certificate::parse(der.as_slice()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut anchors = published.clone();
        anchors.extend(chain.last().filter(|last| last.is_self_issued()).cloned());
        if anchors.is_empty() {
            let subject = chain.last().map(Certificate::subject).unwrap_or_default();
            return Err(CeremonyError::NoRoot { subject });
        }
        let path = verify_ca_path(&chain, &anchors, self.clock.now())?;
        let anchor = anchors
            .get(path.anchor)
            .cloned()
            .unwrap_or_else(|| certificate.clone());
        check_path_len(certificate, issuer)?;
        let in_use = authority
            .issuers
            .iter()
            .any(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active);
        if in_use && !published.contains(&anchor) {
            let subject = anchor.subject();
            return Err(CeremonyError::UnpublishedRoot {
                trust_domain: domain.clone(),
                subject,
            });
        }
        let report = |bundle_sequence| ImportReport {
            trust_domain: domain.clone(),
            issuer: id.clone(),
            certificate: certificate.clone(),
            anchor: anchor.clone(),
            bundle_sequence,
        };
        let is_same = |row: &CaCertificateRecord| {
            row.state == IssuerState::Active
                && row.der == certificate.der()
                && row.anchor == anchor.fingerprint()
        };
        if issuer.certificates.iter().any(is_same) {
            return Ok(report(None));
        }
        let intermediates = chain.get(1..=path.intermediates).unwrap_or_default();
        let applied = self
            .change(Change::AddCaCertificate {
                issuer: id.clone(),
                der: certificate.der().to_vec(),
                path: intermediates
                    .iter()
                    .map(|each| each.der().to_vec())
                    .collect(),
                anchor: anchor.der().to_vec(),
                origin: AnchorOrigin::Upstream,
                source: format!("import by {}", self.actor.name),
                activate: true,
                retire: false,
            })
            .await?;
        Ok(report(
            applied.bundles.first().map(|bundle| bundle.sequence),
        ))
    }
}

fn check_path_len(certificate: &Certificate, issuer: &IssuerRecord) -> Result<(), CeremonyError> {
    match (certificate.path_len(), issuer.path_len) {
        (Some(given), Some(requested)) if given < requested => {
            Err(CeremonyError::PathLen { given, requested })
        }
        _ => Ok(()),
    }
}
