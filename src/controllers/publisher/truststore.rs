//! Truststores as Java reads them. PKCS#12's (RFC 7292) have random salts, so that two of one bundle
//! differ: what an object was made from stands beside it.

use std::time::{Duration, SystemTime};

use crate::digest::{hex, sha256};
use crate::trust::PublishedBundle;
use crate::x509::Certificate;

/// The annotation that says what a binary value was made from, and which bytes that gave.
pub(super) const ANNOTATION: &str = "rootbridge/bundle-source";

/// The format of a truststore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Pkcs12,
    /// Java's own until Java 8.
    Jks,
}

impl Store {
    /// The anchors as trusted certificates, each called by its fingerprint.
    pub(super) fn write(self, bundle: &PublishedBundle, password: &str) -> Result<Vec<u8>, String> {
        let anchors = bundle.bundle.anchors();
        match self {
            Self::Pkcs12 => pkcs12(anchors, password).map_err(|error| error.to_string()),
            Self::Jks => jks(anchors, password).map_err(|error| error.to_string()),
        }
        .map_err(|error| format!("no truststore can be made: {error}"))
    }

    /// What the truststore of a bundle is made from.
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
        // Each entry has a time, which nobody judges by: the anchor's own beginning.
        let begins = u64::try_from(anchor.not_before().secs()).unwrap_or_default();
        let entry = jks::TrustedCertificateEntry {
            creation_time: SystemTime::UNIX_EPOCH + Duration::from_secs(begins),
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

/// The annotation of these bytes.
pub(super) fn annotation(source: &[u8; 32], content: &[u8]) -> String {
    format!("{}.{}", hex(source), hex(&sha256(content)))
}

/// What these bytes were made from, if the annotation is of them.
pub(super) fn source_of(annotation: &str, content: &[u8]) -> Option<[u8; 32]> {
    let (source, made) = annotation.split_once('.')?;
    if made != hex(&sha256(content)) {
        return None;
    }
    let mut bytes = [0; 32];
    if source.len() != 64 {
        return None;
    }
    for (to, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *to = u8::from_str_radix(source.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_speaks_for_its_bytes_alone() {
        let source = sha256(b"source");
        let text = annotation(&source, b"content");
        assert_eq!(source_of(&text, b"content"), Some(source));
        assert_eq!(source_of(&text, b"edited"), None);
        assert_eq!(source_of(&text.replace('.', ""), b"content"), None);
        let short = text.split_at(2).1;
        assert_eq!(source_of(short, b"content"), None);
    }
}
