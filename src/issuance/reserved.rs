//! Keys that no leaf may have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::ledger::Snapshot;
use crate::x509::{Certificate, PublicKey};

type Fingerprint = [u8; 32];

/// SHA-256 of the public keys of every recorded CA: issuers, the CAs above them, and anchors.
#[derive(Debug, Default)]
pub(super) struct ReservedKeys {
    /// By the key or the certificate (DER) that it was read from, so that a change of the records makes
    /// what is new be parsed and nothing else. `None` where there is no key to be read.
    by_der: HashMap<Vec<u8>, Option<Fingerprint>>,
    keys: Arc<HashSet<Fingerprint>>,
}

impl ReservedKeys {
    pub(super) fn refresh(&mut self, records: &Snapshot) -> Arc<HashSet<Fingerprint>> {
        let mut known = std::mem::take(&mut self.by_der);
        let of_key = |der: &[u8]| PublicKey::from_spki_der(der).map(|key| key.fingerprint());
        let of_certificate =
            |der: &[u8]| Certificate::parse(der).map(|each| each.public_key().fingerprint());
        let mut keep = |der: &Vec<u8>, read: &dyn Fn(&[u8]) -> Option<Fingerprint>| {
            if !self.by_der.contains_key(der) {
                let (der, key) = known
                    .remove_entry(der)
                    .unwrap_or_else(|| (der.clone(), read(der)));
                self.by_der.insert(der, key);
            }
        };
        for authority in records.authorities.iter().chain(&records.removed) {
            for issuer in &authority.issuers {
                keep(&issuer.public_key, &|der| of_key(der).ok());
                for der in issuer.certificates.iter().flat_map(|row| &row.path) {
                    keep(der, &|der| of_certificate(der).ok());
                }
            }
            for anchor in &authority.anchors {
                keep(&anchor.der, &|der| of_certificate(der).ok());
            }
        }
        let keys: HashSet<_> = self.by_der.values().flatten().copied().collect();
        if keys != *self.keys {
            self.keys = Arc::new(keys);
        }
        Arc::clone(&self.keys)
    }
}
