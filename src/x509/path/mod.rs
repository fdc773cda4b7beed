//! Certification paths from an issuing CA to a trust anchor (RFC 5280 §6.1), as operators supply
//! them: linear, with errors that name the certificate to replace.

mod error;
mod search;

use super::cert::Certificate;
use super::dn;
use super::extension::{ExtendedKeyUsage, KeyUsage};
use crate::clock::UnixTime;

pub use error::{PathError, PathFault};
pub use search::find_ca_path;

const MAX_CERTIFICATES: usize = 10;

/// A verified path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaPath {
    /// How many certificates are between the first and the anchor: `chain[1..=n]`.
    pub intermediates: usize,
    /// The index of the anchor.
    pub anchor: usize,
}

/// Verifies that `chain` leads to one of `anchors`, which may also be its last certificate. The
/// issuing CA's certificate is first, its issuer's next. Each must be a CA that may sign
/// certificates, be valid at `now`, allow the path length, and have a SHA-2 or Ed25519 signature by
/// the next. An anchor's own signature does not matter, so it may be a SHA-1 signature.
pub fn verify_ca_path(
    chain: &[Certificate],
    anchors: &[Certificate],
    now: UnixTime,
) -> Result<CaPath, PathError> {
    if chain.len() > MAX_CERTIFICATES {
        return Err(PathError::TooLong);
    }
    let last = chain.last().ok_or(PathError::Empty)?;
    // The number of CAs below the current one. Self-issued certificates do not count (RFC 5280
    // §6.1.4 l).
    let mut below = 0usize;
    for (index, certificate) in chain.iter().enumerate() {
        let fail = |fault| PathError::at(index, certificate, fault);
        check_ca(certificate, below, now).map_err(fail)?;
        if let Some(issuer) = chain.get(index + 1) {
            check_issued_by(certificate, issuer, chain).map_err(fail)?;
        }
        below += usize::from(!certificate.is_self_issued());
    }

    let top = chain.len() - 1;
    if let Some(anchor) = anchors.iter().position(|anchor| anchor == last) {
        if last.is_self_issued() && last.signature_algorithm().is_some() {
            // Reports a corrupt root, although verifiers do not check its signature.
            last.verify_signed_by(last.public_key())
                .map_err(|error| PathError::at(top, last, PathFault::Signature(error)))?;
        }
        return Ok(CaPath {
            intermediates: top.saturating_sub(1),
            anchor,
        });
    }
    let mut fault = PathFault::NoAnchor {
        issuer: last.issuer(),
    };
    for (index, anchor) in anchors.iter().enumerate() {
        if anchor.subject_der() != last.issuer_der() {
            continue;
        }
        match check_ca(anchor, below, now).and_then(|()| check_issued_by(last, anchor, &[])) {
            Ok(()) => {
                return Ok(CaPath {
                    intermediates: top,
                    anchor: index,
                });
            }
            Err(other) => fault = PathFault::NotIssuedByAnchor(Box::new(other)),
        }
    }
    Err(PathError::at(top, last, fault))
}

/// How many CAs may be below the first certificate of a path, which continues upwards to its
/// anchor; `None` for no limit.
pub fn remaining_path_len<'a>(path: impl IntoIterator<Item = &'a Certificate>) -> Option<u8> {
    let mut remaining = None;
    // As RFC 5280 §6.1.4 (l) counts: without self-issued certificates.
    let mut below = 0_u8;
    for certificate in path {
        if let Some(allowed) = certificate.path_len() {
            let left = allowed.saturating_sub(below);
            remaining = Some(remaining.map_or(left, |remaining: u8| remaining.min(left)));
        }
        below = below.saturating_add(u8::from(!certificate.is_self_issued()));
    }
    remaining
}

fn check_ca(certificate: &Certificate, below: usize, now: UnixTime) -> Result<(), PathFault> {
    if now < certificate.not_before() {
        return Err(PathFault::NotYetValid {
            from: certificate.not_before(),
            now,
        });
    }
    if now > certificate.not_after() {
        return Err(PathFault::Expired {
            at: certificate.not_after(),
            now,
        });
    }
    if !certificate.is_ca() {
        return Err(PathFault::NotCa);
    }
    if certificate
        .key_usage()
        .is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN))
    {
        return Err(PathFault::NoKeyCertSign);
    }
    if let Some(allowed) = certificate.path_len()
        && usize::from(allowed) < below
    {
        return Err(PathFault::PathLength {
            allowed,
            needed: below,
        });
    }
    if let Some(oid) = &certificate.extensions.unhandled_critical {
        return Err(PathFault::UnknownCriticalExtension { oid: oid.clone() });
    }
    if certificate.extensions.constrains_uris {
        return Err(PathFault::UriNameConstraint);
    }
    if let Some(usage) = certificate.extensions.extended_key_usage
        && !usage.contains(ExtendedKeyUsage::ANY)
        && !usage.contains(ExtendedKeyUsage::SERVER_AND_CLIENT)
    {
        return Err(PathFault::ExtendedKeyUsage);
    }
    Ok(())
}

fn check_issued_by(
    certificate: &Certificate,
    issuer: &Certificate,
    chain: &[Certificate],
) -> Result<(), PathFault> {
    if certificate.issuer_der() != issuer.subject_der() {
        let issuer_index = chain.iter().position(|other| {
            other.subject_der() == certificate.issuer_der() && other != certificate
        });
        return Err(match issuer_index {
            Some(index) => PathFault::WrongOrder { issuer: index + 1 },
            None => match name_difference(certificate, issuer) {
                Some(difference) => PathFault::NameEncoding {
                    issuer: certificate.issuer(),
                    difference,
                },
                None => PathFault::NotIssuedByNext {
                    issuer: certificate.issuer(),
                    next: issuer.subject(),
                },
            },
        });
    }
    if let (Some(authority_key_id), Some(subject_key_id)) =
        (certificate.authority_key_id(), issuer.subject_key_id())
        && authority_key_id != subject_key_id
    {
        return Err(PathFault::KeyIdMismatch);
    }
    certificate
        .verify_signed_by(issuer.public_key())
        .map_err(PathFault::Signature)
}

/// How the issuer's name in `certificate` differs from the subject of `issuer`, if both are the same
/// text: verifiers compare the bytes.
fn name_difference(certificate: &Certificate, issuer: &Certificate) -> Option<String> {
    match certificate.issuer_der() == issuer.subject_der() {
        true => None,
        false => dn::difference_in_form(certificate.issuer_der(), issuer.subject_der()),
    }
}
