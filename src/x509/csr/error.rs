use super::{MAX_ATTRIBUTES, MAX_BYTES, MAX_EXTENSIONS, MAX_NAMES};
use crate::x509::algorithm::UnknownAlgorithm;
use crate::x509::extension::ExtensionListError;
use crate::x509::key::KeyError;
use crate::x509::name::NameError;
use crate::x509::pem::PemError;
use crate::x509::read::Malformed;

/// Why a certification request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("CSR: {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("CSR: {0}")]
    Pem(#[from] PemError),
    #[error("CSR: {0}")]
    Malformed(#[from] Malformed),
    /// Decoding it and encoding the result in DER gives other bytes.
    #[error(
        "CSR: its encoding is not canonical DER (X.690): it contains, for example, an explicit default \
         value or an unsorted SET"
    )]
    NotCanonical,
    #[error("CSR: the version is not 0, PKCS#10's only version (RFC 2986 §4.1)")]
    Version,
    #[error("CSR: {0}")]
    Key(#[from] KeyError),
    #[error("CSR: {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    #[error("CSR: proof of possession failed: {0}; sign the request with the key in it")]
    ProofOfPossession(#[source] KeyError),
    #[error("CSR: attribute {oid} occurs twice")]
    DuplicateAttribute { oid: String },
    #[error("CSR: more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    /// An attribute, such as Microsoft's, that requests extensions like extensionRequest does, but is
    /// not checked.
    #[error("CSR: attribute {oid} is not allowed; use extensionRequest (1.2.840.113549.1.9.14)")]
    AttributeNotAllowed { oid: String },
    #[error("CSR: more than {MAX_EXTENSIONS} extensions are requested")]
    TooManyExtensions,
    #[error("CSR: extension {oid} is requested twice")]
    DuplicateExtension { oid: String },
    #[error(
        "CSR: extension {oid} is not allowed; request subjectAltName, keyUsage, extKeyUsage, \
         basicConstraints CA:FALSE or subjectKeyIdentifier only"
    )]
    ExtensionNotAllowed { oid: String },
    #[error("CSR: it requests a CA certificate ({how}); only end entities are certified here")]
    /// `how` names what asks for it: the extension and its value.
    CaCertificateRequested { how: &'static str },
    #[error("CSR: more than {MAX_NAMES} subject alternative names")]
    TooManyNames,
    #[error("CSR: subject alternative name: {kind} is not certified; use a SPIFFE ID, DNS or IP")]
    UnsupportedNameKind { kind: &'static str },
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
