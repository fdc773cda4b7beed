//! Truststores for Java. PKCS#12 (RFC 7292) uses random salts, so that two truststores of one bundle
//! differ: an annotation says what the value was made from.

use std::time::{Duration, SystemTime};

use crate::digest::{from_hex, hex, sha256};
use crate::trust::PublishedBundle;
use crate::x509::Certificate;

/// Holds the SHA-256 of what a binary value was made from, and of the value itself.
pub(super) const ANNOTATION: &str = "rootbridge/bundle-source";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TruststoreKind {
    Pkcs12,
    /// Java's default until Java 8.
    Jks,
}

impl TruststoreKind {
    /// Encodes the anchors as trusted certificates; each alias is the fingerprint.
    pub(super) fn write(self, bundle: &PublishedBundle, password: &str) -> Result<Vec<u8>, String> {
        let anchors = bundle.bundle.anchors();
        match self {
            Self::Pkcs12 => pkcs12(anchors, password).map_err(|error| error.to_string()),
            Self::Jks => jks(anchors, password).map_err(|error| error.to_string()),
        }
        .map_err(|error| format!("the truststore cannot be encoded: {error}"))
    }

    /// A digest of everything that the truststore is made from.
    pub(super) fn source(self, bundle: &PublishedBundle, password: &str) -> [u8; 32] {
        let kind = match self {
            Self::Pkcs12 => "pkcs12",
            Self::Jks => "jks",
        };
        sha256(format!("{kind} {} {password}", bundle.digest).as_bytes())
    }
}

fn pkcs12(anchors: &[Certificate], password: &str) -> Result<Vec<u8>, p12_keystore::error::Error> {
    let mut store = p12_keystore::KeyStore::new();
    for anchor in anchors {
        let certificate = p12_keystore::Certificate::from_der(anchor.der())?;
        let entry = p12_keystore::KeyStoreEntry::Certificate(certificate);
        store.add_entry(&hex(&anchor.fingerprint()), entry);
    }
    store.writer(password).write()
}

fn jks(anchors: &[Certificate], password: &str) -> Result<Vec<u8>, jks::KeyStoreError> {
    let mut store = jks::KeyStore::with_options(jks::KeyStoreOptions {
        ordered_aliases: true,
        ..jks::KeyStoreOptions::default()
    });
    for anchor in anchors {
        // The format needs a creation time; the anchor's notBefore keeps the output stable.
        let not_before = u64::try_from(anchor.not_before().secs()).unwrap_or_default();
        let entry = jks::TrustedCertificateEntry {
            creation_time: SystemTime::UNIX_EPOCH + Duration::from_secs(not_before),
            certificate: jks::Certificate {
                cert_type: "X.509".to_owned(),
                content: anchor.der().to_vec(),
            },
        };
        store.set_trusted_certificate_entry(&hex(&anchor.fingerprint()), entry)?;
    }
    let mut bytes = Vec::new();
    store.store(&mut bytes, password.as_bytes())?;
    Ok(bytes)
}

pub(super) fn annotation(source: &[u8; 32], content: &[u8]) -> String {
    format!("{}.{}", hex(source), hex(&sha256(content)))
}

/// What these bytes were made from, if the annotation belongs to them.
pub(super) fn source_of(annotation: &str, content: &[u8]) -> Option<[u8; 32]> {
    let (source, made) = annotation.split_once('.')?;
    if made != hex(&sha256(content)) {
        return None;
    }
    from_hex(source)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_valid_for_its_bytes_only() {
        let source = sha256(b"source");
        let text = annotation(&source, b"content");
        assert_eq!(source_of(&text, b"content"), Some(source));
        assert_eq!(source_of(&text, b"edited"), None);
        assert_eq!(source_of(&text.replace('.', ""), b"content"), None);
        let short = text.split_at(2).1;
        assert_eq!(source_of(short, b"content"), None);
    }
}
