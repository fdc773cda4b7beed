//! Why a certificate cannot be read, or its signature not be accepted.

use super::{MAX_EXTENSIONS, MAX_NAMES};
use crate::x509::algorithm::UnknownAlgorithm;
use crate::x509::extension::ExtensionListError;
use crate::x509::key::KeyError;
use crate::x509::name::NameError;
use crate::x509::pem::PemError;
use crate::x509::read::Malformed;
use crate::x509::serial::SerialError;

/// Why a certificate cannot be read, or its signature not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Serial(#[from] SerialError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    #[error("the certificate has one signature algorithm inside and another outside")]
    AlgorithmsDiffer,
    #[error("the certificate is not version 3 (RFC 5280 §4.1.2.1)")]
    Version,
    #[error("the certificate has extension {oid} twice (RFC 5280 §4.2)")]
    DuplicateExtension { oid: String },
    #[error("the certificate has more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    #[error("the certificate has more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    #[error("certificate {index} of the chain: {cause}")]
    At {
        /// Counted from one.
        index: usize,
        cause: Box<CertError>,
    },
}

impl CertError {
    pub(in crate::x509) fn at(self, index: usize) -> Self {
        Self::At {
            index,
            cause: Box::new(self),
        }
    }
}

impl From<ExtensionListError> for CertError {
    fn from(fault: ExtensionListError) -> Self {
        match fault {
            ExtensionListError::Malformed(malformed) => Self::Malformed(malformed),
            ExtensionListError::TooMany => Self::TooManyExtensions,
            ExtensionListError::Duplicate(oid) => Self::DuplicateExtension { oid },
        }
    }
}
