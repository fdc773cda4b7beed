//! Why a chain does not lead to an anchor.

use super::MAX_CERTIFICATES;
use crate::clock::UnixTime;
use crate::x509::cert::{CertError, Certificate};

/// Why a chain does not lead to an anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing there.
    #[error("the chain holds no certificate")]
    Empty,
    /// Too many certificates.
    #[error("the chain has more than {MAX_CERTIFICATES} certificates")]
    TooLong,
    /// One of them is at fault.
    #[error("certificate {index} of the chain ({subject}): {fault}")]
    Certificate {
        /// Its place, counted from one.
        index: usize,
        /// Its subject.
        subject: String,
        /// What is wrong with it.
        fault: PathFault,
    },
}

/// What is wrong with one certificate of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Past its end.
    #[error("it expired at {at} (now {now}); have it renewed")]
    Expired {
        /// Its end.
        at: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Before its beginning.
    #[error("it is not valid before {from} (now {now}); check this machine's clock")]
    NotYetValid {
        /// Its beginning.
        from: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// An end entity.
    #[error("it is not a CA certificate; have it issued with basicConstraints CA:TRUE")]
    NotCa,
    /// A CA that signs no certificates.
    #[error("its keyUsage lacks keyCertSign; have it issued with keyCertSign")]
    NoKeyCertSign,
    /// Too many CAs below it.
    #[error(
        "its path length allows {allowed} CA(s) below it and there are {needed}; have it issued with \
         pathlen:{needed} or more"
    )]
    PathLength {
        /// What it allows.
        allowed: u8,
        /// What stands below it.
        needed: usize,
    },
    /// A critical extension that is not understood.
    #[error(
        "it has a critical extension that rustls (Linkerd, ztunnel) does not understand ({oid}), so \
         that no certificate below it verifies there; have it issued with that one not critical"
    )]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// Name constraints on URIs.
    #[error(
        "it has a name constraint on URIs, for which rustls (Linkerd, ztunnel) refuses every SPIFFE \
         certificate below it; have it issued without"
    )]
    UriConstraint,
    /// Purposes that exclude TLS.
    #[error(
        "its extKeyUsage does not allow both serverAuth and clientAuth, so that no mesh certificate \
         below it verifies; have it issued with both or without the extension"
    )]
    Purposes,
    /// The order is not issuing CA first, root last.
    #[error(
        "it was issued by certificate {issuer} of the chain, not by the next one; put the issuing \
         CA's first, then each one's issuer"
    )]
    WrongOrder {
        /// The place of its issuer's certificate, counted from one.
        issuer: usize,
    },
    /// The next one is another CA's.
    #[error("it was issued by {issuer}, but the next certificate is {next}'s")]
    NotIssuedByNext {
        /// Its issuer.
        issuer: String,
        /// The next certificate's subject.
        next: String,
    },
    /// The names match, the key identifiers do not.
    #[error(
        "its authorityKeyIdentifier is not the next certificate's subjectKeyIdentifier: the same name, another key"
    )]
    KeyIds,
    /// A signature that does not verify, or by an algorithm that is not accepted, such as SHA-1.
    #[error("its signature is not accepted: {0}")]
    Signature(#[source] CertError),
    /// The chain ends below every anchor.
    #[error(
        "its issuer {issuer} is not among the trust anchors; add the missing certificates up to the root"
    )]
    NoAnchor {
        /// Its issuer.
        issuer: String,
    },
    /// An anchor has the right name and yet did not issue it.
    #[error("the trust anchor of its issuer's name does not fit: {0}")]
    Anchor(Box<PathFault>),
}

impl PathError {
    pub(super) fn at(index: usize, certificate: &Certificate, fault: PathFault) -> Self {
        Self::Certificate {
            index: index + 1,
            subject: certificate.subject(),
            fault,
        }
    }
}
