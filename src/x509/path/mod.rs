//! The way from an issuing CA up to a trust anchor (RFC 5280 §6.1), for chains that an operator
//! brings: linear, and with errors that say which certificate to replace.

mod error;

use super::cert::Certificate;
use super::extension::{ExtendedKeyUsage, KeyUsage};
use crate::clock::UnixTime;

pub use error::{PathError, PathFault};

/// The most certificates of a path.
const MAX_CERTIFICATES: usize = 10;

/// A path that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaPath {
    /// How many of the chain's certificates stand between the first and the anchor: `chain[1..=n]`.
    pub intermediates: usize,
    /// Which of the anchors it ends in.
    pub anchor: usize,
}

/// Verifies that `chain`, the issuing CA's certificate first, each followed by its issuer's, leads to
/// one of `anchors`, which may also stand last in it. Each is a CA that may sign certificates, valid
/// at `now`, with a path length that suffices and a SHA-2 or Ed25519 signature by the next. An
/// anchor's own signature says nothing, so that a root signed with SHA-1 will do.
///
/// # Errors
/// [`PathError`] says which certificate is at fault, and why.
pub fn verify_ca_path(
    chain: &[Certificate],
    anchors: &[Certificate],
    now: UnixTime,
) -> Result<CaPath, PathError> {
    if chain.len() > MAX_CERTIFICATES {
        return Err(PathError::TooLong);
    }
    let last = chain.last().ok_or(PathError::Empty)?;
    // How many CAs stand below the one that is looked at; the self-issued do not count (RFC 5280
    // §6.1.4 l).
    let mut below = 0usize;
    for (index, certificate) in chain.iter().enumerate() {
        let fail = |fault| PathError::at(index, certificate, fault);
        check_ca(certificate, below, now).map_err(fail)?;
        if let Some(issuer) = chain.get(index + 1) {
            check_link(certificate, issuer, chain).map_err(fail)?;
        }
        below += usize::from(!certificate.is_self_issued());
    }

    let top = chain.len() - 1;
    if let Some(anchor) = anchors.iter().position(|anchor| anchor == last) {
        if last.is_self_issued() && last.signature_algorithm().is_some() {
            // A damaged root is told here, though nothing would trust it less for that.
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
        match check_ca(anchor, below, now).and_then(|()| check_link(last, anchor, &[])) {
            Ok(()) => {
                return Ok(CaPath {
                    intermediates: top,
                    anchor: index,
                });
            }
            Err(other) => fault = PathFault::Anchor(Box::new(other)),
        }
    }
    Err(PathError::at(top, last, fault))
}

/// How many CAs may stand below the first of a path, which goes on upwards to its anchor; `None` when
/// no certificate of it limits that.
pub fn remaining_path_len<'a>(path: impl IntoIterator<Item = &'a Certificate>) -> Option<u8> {
    let mut room = None;
    // As many stand below each as in RFC 5280 §6.1.4 (l): the self-issued do not count.
    let mut below = 0_u8;
    for certificate in path {
        if let Some(allowed) = certificate.path_len() {
            let left = allowed.saturating_sub(below);
            room = Some(room.map_or(left, |room: u8| room.min(left)));
        }
        below = below.saturating_add(u8::from(!certificate.is_self_issued()));
    }
    room
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
        return Err(PathFault::UnknownCritical { oid: oid.clone() });
    }
    if certificate.extensions.constrains_uris {
        return Err(PathFault::UriConstraint);
    }
    if let Some(usage) = certificate.extensions.extended_key_usage
        && !usage.contains(ExtendedKeyUsage::ANY)
        && !usage.contains(ExtendedKeyUsage::SERVER_AND_CLIENT)
    {
        return Err(PathFault::Purposes);
    }
    Ok(())
}

fn check_link(
    certificate: &Certificate,
    issuer: &Certificate,
    chain: &[Certificate],
) -> Result<(), PathFault> {
    if certificate.issuer_der() != issuer.subject_der() {
        let elsewhere = chain.iter().position(|other| {
            other.subject_der() == certificate.issuer_der() && other != certificate
        });
        return Err(match elsewhere {
            Some(index) => PathFault::WrongOrder { issuer: index + 1 },
            None => PathFault::NotIssuedByNext {
                issuer: certificate.issuer(),
                next: issuer.subject(),
            },
        });
    }
    if let (Some(asked), Some(has)) = (certificate.authority_key_id(), issuer.subject_key_id())
        && asked != has
    {
        return Err(PathFault::KeyIds);
    }
    certificate
        .verify_signed_by(issuer.public_key())
        .map_err(PathFault::Signature)
}
