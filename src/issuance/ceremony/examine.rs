//! Examines the certificates that another CA issued for a key of this server, before they are used.

use super::{Ceremony, CeremonyError, issuer_id, objections};
use crate::ledger::{AuthorityRecord, IssuerId, IssuerRecord, IssuerState, Role};
use crate::x509::{Certificate, find_ca_path};

/// A certificate that can be used once the anchor of its path is published.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) certificate: Certificate,
    /// From the certificate to the anchor.
    pub(super) path: Vec<Certificate>,
    pub(super) anchor: Certificate,
    /// What strict verifiers refuse in the certificates above the issuing one.
    pub(super) warnings: Vec<String>,
    /// What else was given.
    pub(super) unused: Vec<Certificate>,
}

impl Examined {
    /// The certificates between the first and the anchor, in DER.
    pub(super) fn intermediates(&self) -> Vec<Vec<u8>> {
        let between = self.path.get(1..self.path.len().saturating_sub(1));
        let between = between.unwrap_or_default().iter();
        between.map(|each| each.der().to_vec()).collect()
    }
}

impl Ceremony {
    /// `known` are the anchors that a path may end in; a root among `certificates` is another.
    /// `requested`: how many CAs must be allowed below.
    pub(super) fn examine(
        &self,
        certificate: &Certificate,
        requested: Option<u8>,
        certificates: &[Certificate],
        known: &[Certificate],
    ) -> Result<Examined, CeremonyError> {
        let path = self.find_path(certificate, certificates, known)?;
        let warnings = objections::examine(&path)?;
        check_path_len(certificate, requested)?;
        let unused = certificates.iter().filter(|each| !path.contains(each));
        Ok(Examined {
            certificate: certificate.clone(),
            anchor: path.last().unwrap_or(certificate).clone(),
            warnings,
            unused: unused.cloned().collect(),
            path,
        })
    }

    /// To a known anchor, or else to a root among `certificates`.
    fn find_path(
        &self,
        certificate: &Certificate,
        certificates: &[Certificate],
        known: &[Certificate],
    ) -> Result<Vec<Certificate>, CeremonyError> {
        let now = self.clock.now();
        if let Ok(path) = find_ca_path(certificate, certificates, known, now) {
            return Ok(path);
        }
        let roots = certificates
            .iter()
            .filter(|each| match *each == certificate {
                true => is_root(each),
                false => each.is_self_issued(),
            });
        let anchors: Vec<_> = known.iter().chain(roots).cloned().collect();
        if anchors.is_empty() {
            return Err(CeremonyError::NoRoot {
                subject: top(certificate, certificates).issuer(),
            });
        }
        Ok(find_ca_path(certificate, certificates, &anchors, now)?)
    }
}

/// Whether the certificate is its own issuer's, by its names and key identifiers; path validation
/// verifies the signature.
pub(super) fn is_root(certificate: &Certificate) -> bool {
    let own = certificate.subject_key_id();
    certificate.is_self_issued()
        && certificate
            .authority_key_id()
            .is_none_or(|issuer| Some(issuer) == own)
}

pub(super) fn published(
    authority: Option<&AuthorityRecord>,
) -> Result<Vec<Certificate>, CeremonyError> {
    let bundle = authority.and_then(|authority| authority.bundle.as_ref());
    let anchors = bundle.into_iter().flat_map(|bundle| &bundle.anchors);
    let anchors = anchors.map(|der| Certificate::parse(der.as_slice()));
    Ok(anchors.collect::<Result<_, _>>()?)
}

/// Whether workloads have certificates of an issuing CA of this authority.
pub(super) fn is_in_use(authority: &AuthorityRecord) -> bool {
    authority
        .issuers
        .iter()
        .any(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active)
}

/// The newest certificate for a key of an authority here, with the key's records. With `only`, for
/// that key.
pub(super) fn own_certificate<'a>(
    certificates: &'a [Certificate],
    authorities: &'a [AuthorityRecord],
    only: Option<&IssuerId>,
) -> Result<(&'a Certificate, &'a AuthorityRecord, &'a IssuerRecord), CeremonyError> {
    let own = certificates.iter().filter_map(|certificate| {
        let id = issuer_id(certificate.public_key());
        let issuers = authorities.iter().flat_map(|authority| {
            authority
                .issuers
                .iter()
                .map(move |issuer| (authority, issuer))
        });
        issuers
            .filter(|(_, issuer)| issuer.id == id)
            .filter(|(_, issuer)| only.is_none_or(|only| issuer.id == *only))
            .filter(|(_, issuer)| issuer.role == Role::Issuing)
            .filter(|(_, issuer)| issuer.state != IssuerState::Retired)
            .map(|(authority, issuer)| (certificate, authority, issuer))
            .next()
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

fn check_path_len(certificate: &Certificate, requested: Option<u8>) -> Result<(), CeremonyError> {
    match (certificate.path_len(), requested) {
        (Some(given), Some(requested)) if given < requested => {
            Err(CeremonyError::PathLen { given, requested })
        }
        _ => Ok(()),
    }
}
