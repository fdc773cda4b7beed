//! Errors of certification paths.

use super::MAX_CERTIFICATES;
use crate::clock::UnixTime;
use crate::x509::cert::{CertError, Certificate};

/// Why a chain does not lead to a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the chain holds no certificate")]
    Empty,
    #[error("the chain has more than {MAX_CERTIFICATES} certificates")]
    TooLong,
    #[error("certificate {index} of the chain ({subject}): {fault}")]
    Certificate {
        /// Counted from one.
        index: usize,
        subject: String,
        fault: PathFault,
    },
}

/// What is wrong with one certificate of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("it expired at {at} (now {now}); have it renewed")]
    Expired { at: UnixTime, now: UnixTime },
    #[error("it is not valid before {from} (now {now}); check this machine's clock")]
    NotYetValid { from: UnixTime, now: UnixTime },
    #[error("it is not a CA certificate; have it issued with basicConstraints CA:TRUE")]
    NotCa,
    #[error("its keyUsage lacks keyCertSign; have it issued with keyCertSign")]
    NoKeyCertSign,
    #[error(
        "its path length allows {allowed} CA(s) below it, and there are {needed}; have it issued with \
         pathlen:{needed} or more"
    )]
    PathLength { allowed: u8, needed: usize },
    #[error(
        "it has a critical extension that rustls (Linkerd, ztunnel) does not understand ({oid}), so \
         that no certificate below it verifies there; have it issued with that one not critical"
    )]
    UnknownCriticalExtension { oid: String },
    #[error(
        "it has a name constraint on URIs, for which rustls (Linkerd, ztunnel) refuses every SPIFFE \
         certificate below it; have it issued without"
    )]
    UriNameConstraint,
    #[error(
        "its extKeyUsage does not allow both serverAuth and clientAuth, so that no mesh certificate \
         below it verifies; have it issued with both or without the extension"
    )]
    ExtendedKeyUsage,
    #[error(
        "it was issued by certificate {issuer} of the chain, not by the next one; put the issuing \
         CA's first, then each one's issuer"
    )]
    WrongOrder {
        /// Counted from one.
        issuer: usize,
    },
    #[error("it was issued by {issuer}, but the next certificate is {next}'s")]
    NotIssuedByNext { issuer: String, next: String },
    #[error(
        "its issuer {issuer} is the CA's name in another form ({difference}), and verifiers compare \
         the bytes; have it issued with the exact bytes of the CA's own subject"
    )]
    NameEncoding { issuer: String, difference: String },
    #[error(
        "its authorityKeyIdentifier is not the next certificate's subjectKeyIdentifier: the same name, another key"
    )]
    KeyIdMismatch,
    #[error("its signature is not accepted: {0}")]
    Signature(#[source] CertError),
    #[error(
        "its issuer {issuer} is not among the trust anchors; add the missing certificates up to the root"
    )]
    NoAnchor { issuer: String },
    #[error("the trust anchor with its issuer's name did not issue it: {0}")]
    NotIssuedByAnchor(Box<PathFault>),
}

impl PathError {
    /// `index` counts from zero.
    pub(super) fn at(index: usize, certificate: &Certificate, fault: PathFault) -> Self {
        Self::Certificate {
            index: index + 1,
            subject: certificate.subject(),
            fault,
        }
    }
}
