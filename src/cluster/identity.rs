//! Client certificates with their keys.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why a certificate and a key are no identity. No variant holds their text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("the client certificate holds no PEM block CERTIFICATE")]
    NoCertificate,
    #[error("the client certificate is not valid PEM")]
    Pem,
    #[error("the client key is encrypted: `openssl pkey` removes the password")]
    Encrypted,
    #[error("the client key holds no PEM block of a private key")]
    NoKey,
    #[error("the client key cannot be used: {0}")]
    Unusable(String),
    #[error("the client certificate and the client key do not belong together")]
    Mismatch,
}

/// The identity of a chain, leaf first, and its key, both in PEM.
pub(super) fn identity(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, IdentityError> {
    let chain = certificates(chain).map_err(|_| IdentityError::Pem)?;
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate);
    }
    let parsed =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            match String::from_utf8_lossy(key).contains("ENCRYPTED") {
                true => IdentityError::Encrypted,
                false => IdentityError::NoKey,
            }
        })?;
    CertifiedKey::from_der(chain, parsed, &default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
        other => IdentityError::Unusable(other.to_string()),
    })
}

/// The certificates in a PEM text; other blocks are passed over.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}
