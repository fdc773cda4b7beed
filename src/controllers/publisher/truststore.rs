//! PKCS#12 truststores (RFC 7292) as Java reads them. Their salts are random, so two of one bundle
//! differ: what an object was made from stands beside it.

use aws_lc_rs::digest::{SHA256, digest};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};

use crate::trust::Published;

/// The annotation that says what a binary value was made from, and which bytes that gave.
pub(super) const ANNOTATION: &str = "rootbridge/bundle-source";

/// The anchors as trusted certificates, each called by its fingerprint.
pub(super) fn pkcs12(bundle: &Published, password: &str) -> Result<Vec<u8>, String> {
    let failed = |error: p12_keystore::error::Error| format!("no truststore can be made: {error}");
    let mut store = KeyStore::new();
    for anchor in bundle.bundle.anchors() {
        let certificate = Certificate::from_der(anchor.der()).map_err(failed)?;
        let alias = hex(&anchor.fingerprint());
        store.add_entry(&alias, KeyStoreEntry::Certificate(certificate));
    }
    store.writer(password).write().map_err(failed)
}

/// What the truststore of a bundle is made from.
pub(super) fn source(bundle: &Published, password: &str) -> [u8; 32] {
    sha256(format!("pkcs12 {} {password}", bundle.digest).as_bytes())
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

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = digest(&SHA256, bytes);
    out.iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
