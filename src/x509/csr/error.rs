//! Why a certification request is refused.

use super::MAX_BYTES;
use super::attributes::{MAX_ATTRIBUTES, MAX_EXTENSIONS, MAX_NAMES};
use crate::x509::algorithm::UnknownAlgorithm;
use crate::x509::extension::ExtensionListError;
use crate::x509::key::KeyError;
use crate::x509::name::NameError;
use crate::x509::pem::PemError;
use crate::x509::read::Malformed;

/// Why a certification request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too many bytes.
    #[error("CSR: {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not PEM, or not one block.
    #[error("CSR: {0}")]
    Pem(#[from] PemError),
    /// Not DER.
    #[error("CSR: {0}")]
    Malformed(#[from] Malformed),
    /// DER that another encoder would write differently.
    #[error(
        "CSR: its encoding is not canonical DER (X.690): encoded again it gives other bytes, as with \
         an explicit default value or an unsorted SET"
    )]
    NotCanonical,
    /// Another version than 0.
    #[error("CSR: the version is not 0, which is PKCS#10's only one (RFC 2986 §4.1)")]
    Version,
    /// A key that is not certified.
    #[error("CSR: {0}")]
    Key(#[from] KeyError),
    /// A signature algorithm that is not accepted.
    #[error("CSR: {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    /// The signature is not by the key in the request.
    #[error("CSR: proof of possession failed: {0}; sign the request with the key it asks for")]
    ProofOfPossession(#[source] KeyError),
    /// The same attribute twice.
    #[error("CSR: attribute {oid} stands there twice")]
    DuplicateAttribute {
        /// Which.
        oid: String,
    },
    /// Too many attributes.
    #[error("CSR: more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    /// An attribute that would ask for extensions by another way.
    #[error(
        "CSR: attribute {oid} is not allowed; ask with extensionRequest (1.2.840.113549.1.9.14)"
    )]
    AttributeNotAllowed {
        /// Which.
        oid: String,
    },
    /// Too many extensions.
    #[error("CSR: more than {MAX_EXTENSIONS} extensions are asked for")]
    TooManyExtensions,
    /// The same extension twice.
    #[error("CSR: extension {oid} is asked for twice")]
    DuplicateExtension {
        /// Which.
        oid: String,
    },
    /// An extension that no leaf gets by asking.
    #[error(
        "CSR: extension {oid} is not allowed; ask for subjectAltName, keyUsage, extKeyUsage, \
         basicConstraints CA:FALSE or subjectKeyIdentifier only"
    )]
    ExtensionNotAllowed {
        /// Which.
        oid: String,
    },
    /// A CA certificate is asked for.
    #[error("CSR: it asks for a CA certificate ({how}); only end entities are certified here")]
    CaRequested {
        /// By which extension.
        how: &'static str,
    },
    /// Too many names.
    #[error("CSR: more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    /// A name of another kind.
    #[error("CSR: subject alternative name: {kind} is not certified; use a SPIFFE ID, DNS or IP")]
    NameKind {
        /// Which.
        kind: &'static str,
    },
    /// A name that is not well formed.
    #[error("CSR: subject alternative name: {0}")]
    Name(#[from] NameError),
}

impl From<ExtensionListError> for CsrError {
    fn from(fault: ExtensionListError) -> Self {
        match fault {
            ExtensionListError::Malformed(malformed) => Self::Malformed(malformed),
            ExtensionListError::TooMany => Self::TooManyExtensions,
            ExtensionListError::Duplicate(oid) => Self::DuplicateExtension { oid },
        }
    }
}
