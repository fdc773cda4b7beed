//! Why a certificate cannot be read, or its signature not be accepted.

use super::extensions::{MAX_EXTENSIONS, MAX_NAMES};
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
    /// Not DER.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A key that cannot be used, or a signature that does not verify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A serial number that breaks RFC 5280.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A name that is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A signature algorithm that is not verified here.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// The signed and the unsigned copy of the algorithm differ.
    #[error("the certificate names one signature algorithm inside and another outside")]
    AlgorithmsDiffer,
    /// A version that there is not, or extensions in a version that has none.
    #[error("the certificate is not version 3 (RFC 5280 §4.1.2.1)")]
    Version,
    /// The same extension twice.
    #[error("the certificate has extension {oid} twice (RFC 5280 §4.2)")]
    DuplicateExtension {
        /// Which.
        oid: String,
    },
    /// Too many extensions.
    #[error("the certificate has more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    /// Too many names.
    #[error("the certificate has more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    /// One certificate of several.
    #[error("certificate {index} of the chain: {cause}")]
    At {
        /// Its place, counted from one.
        index: usize,
        /// What is wrong with it.
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
