//! `ca import`: checks and activates the certificate that the enterprise issued for `ca request`.

use super::options::ImportReport;
use super::{Ceremony, CeremonyError, issuer_id, objections};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaCertificateRecord, Change, IssuerRecord, IssuerState, Role,
    Snapshot,
};
use crate::x509::{Certificate, find_ca_path};

impl Ceremony {
    /// Imports the certificate that was issued for one of this server's keys, with those above it.
    /// `certificates` are in any order, and may hold others. The root may be missing if it is
    /// published. An error changes nothing.
    pub async fn import(
        &self,
        certificates: &[Certificate],
    ) -> Result<ImportReport, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let (certificate, authority, issuer) = own_certificate(certificates, &records)?;
        let id = &issuer.id;
        let domain = &authority.trust_domain;

        let published = published(Some(authority))?;
        let path = self.find_path(certificate, certificates, &published)?;
        let anchor = path.last().unwrap_or(certificate).clone();
        let warnings = objections::examine(&path)?;
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
            path: path.clone(),
            warnings: warnings.clone(),
            unused: certificates
                .iter()
                .filter(|each| !path.contains(each))
                .cloned()
                .collect(),
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
        let intermediates = path.get(1..path.len() - 1).unwrap_or_default();
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

    /// To a published anchor, or else to a root among `certificates`.
    fn find_path(
        &self,
        certificate: &Certificate,
        certificates: &[Certificate],
        published: &[Certificate],
    ) -> Result<Vec<Certificate>, CeremonyError> {
        let now = self.clock.now();
        if let Ok(path) = find_ca_path(certificate, certificates, published, now) {
            return Ok(path);
        }
        let roots = certificates
            .iter()
            .filter(|each| each.is_self_issued() && *each != certificate);
        let anchors: Vec<_> = published.iter().chain(roots).cloned().collect();
        if anchors.is_empty() {
            return Err(CeremonyError::NoRoot {
                subject: top(certificate, certificates).issuer(),
            });
        }
        Ok(find_ca_path(certificate, certificates, &anchors, now)?)
    }
}

fn published(authority: Option<&AuthorityRecord>) -> Result<Vec<Certificate>, CeremonyError> {
    let bundle = authority.and_then(|authority| authority.bundle.as_ref());
    let anchors = bundle.into_iter().flat_map(|bundle| &bundle.anchors);
    let anchors = anchors.map(|der| Certificate::parse(der.as_slice()));
    Ok(anchors.collect::<Result<_, _>>()?)
}

/// The newest certificate for a key of an authority here, with the key's records.
fn own_certificate<'a>(
    certificates: &'a [Certificate],
    records: &'a Snapshot,
) -> Result<(&'a Certificate, &'a AuthorityRecord, &'a IssuerRecord), CeremonyError> {
    let own = certificates.iter().filter_map(|certificate| {
        records
            .issuer(&issuer_id(certificate.public_key()))
            .filter(|(_, issuer)| issuer.role == Role::Issuing)
            .filter(|(_, issuer)| issuer.state != IssuerState::Retired)
            .map(|(authority, issuer)| (certificate, authority, issuer))
    });
    own.max_by_key(|(certificate, ..)| certificate.not_before())
        .ok_or_else(|| CeremonyError::UnknownKey {
            subjects: subjects(certificates),
        })
}

/// Of the first three.
pub(super) fn subjects(certificates: &[Certificate]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = certificates
        .iter()
        .take(SHOWN)
        .map(Certificate::subject)
        .collect();
    match certificates.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

/// The last certificate that can be reached from `certificate` by the names of issuers.
fn top<'a>(certificate: &'a Certificate, certificates: &'a [Certificate]) -> &'a Certificate {
    let mut last = certificate;
    for _ in certificates {
        let above = certificates
            .iter()
            .find(|each| each.subject_der() == last.issuer_der());
        match above {
            Some(above) => last = above,
            None => break,
        }
    }
    last
}

fn check_path_len(certificate: &Certificate, issuer: &IssuerRecord) -> Result<(), CeremonyError> {
    match (certificate.path_len(), issuer.path_len) {
        (Some(given), Some(requested)) if given < requested => {
            Err(CeremonyError::PathLen { given, requested })
        }
        _ => Ok(()),
    }
}
