//! A bundle of another trust domain as its endpoint sends it (SPIFFE Trust Domain and Bundle §4).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::x509::{
    BundleError, CertError, Certificate, San, TrustBundle, TrustDomain, read_certificate_ders,
};

/// The most bytes of a document: certificates in base64, and other keys beside them.
pub(super) const MAX_BYTES: usize = 2 * 1024 * 1024;

/// What a bundle says of itself, checked without its predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// `spiffe_sequence`.
    pub(super) sequence: Option<u64>,
    /// `spiffe_refresh_hint`.
    pub(super) refresh_hint: Option<Duration>,
    /// In DER, without duplicates, at least one.
    anchors: Vec<Vec<u8>>,
}

#[derive(Debug, Deserialize)]
struct Raw {
    keys: Vec<Key>,
    #[serde(default)]
    spiffe_sequence: Option<u64>,
    #[serde(default)]
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Key {
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    x5c: Option<Vec<String>>,
}

/// Why a bundle is not taken. The last one stays in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("it is not a SPIFFE bundle: {0}")]
    NotABundle(String),
    #[error("key {0} of use x509-svid does not have exactly one certificate in x5c")]
    NotOneCertificate(usize),
    #[error("the certificate of key {index}: {cause}")]
    Certificate { index: usize, cause: CertError },
    #[error("the certificate of key {0} is not one of a CA")]
    NotACa(usize),
    #[error("the certificate of key {index} has the ID {id}, which is of another trust domain")]
    OtherTrustDomain { index: usize, id: String },
    #[error("it has no X.509 root at all")]
    Empty,
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("its sequence went back from {last} to {next}")]
    WentBack { last: u64, next: u64 },
    #[error("it has no sequence any more; the last one was {0}")]
    NoSequence(u64),
    #[error("its roots are others, but its sequence is still {0}")]
    SameSequence(u64),
}

impl Document {
    /// Reads a bundle of `trust_domain`.
    pub(super) fn read(trust_domain: &TrustDomain, bytes: &[u8]) -> Result<Self, Refused> {
        let raw: Raw = serde_json::from_slice(bytes)
            // The parser's words hold no text of the document.
            .map_err(|error| Refused::NotABundle(error.to_string()))?;
        let mut anchors: Vec<Vec<u8>> = Vec::new();
        for (index, key) in raw.keys.iter().enumerate() {
            let index = index + 1;
            // Keys of another use, or of none, are for something else (§4.2.2).
            if key.usage.as_deref() != Some("x509-svid") {
                continue;
            }
            let [certificate] = key.x5c.as_deref().unwrap_or_default() else {
                return Err(Refused::NotOneCertificate(index));
            };
            let der = STANDARD
                .decode(certificate)
                .map_err(|_| Refused::NotOneCertificate(index))?;
            anchors.push(der);
        }
        let document = Self {
            sequence: raw.spiffe_sequence,
            refresh_hint: raw.spiffe_refresh_hint.map(Duration::from_secs),
            anchors,
        };
        document.checked(trust_domain)
    }

    /// A first bundle that an operator wrote in a file: PEM, or a document.
    pub(super) fn from_file(trust_domain: &TrustDomain, bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::read(trust_domain, bytes);
        }
        let anchors =
            read_certificate_ders(bytes).map_err(|error| Refused::NotABundle(error.to_string()))?;
        let document = Self {
            sequence: None,
            refresh_hint: None,
            anchors,
        };
        document.checked(trust_domain)
    }

    fn checked(mut self, trust_domain: &TrustDomain) -> Result<Self, Refused> {
        let mut distinct: Vec<Vec<u8>> = Vec::with_capacity(self.anchors.len());
        for (index, der) in self.anchors.into_iter().enumerate() {
            let index = index + 1;
            let anchor = Certificate::parse(der.clone())
                .map_err(|cause| Refused::Certificate { index, cause })?;
            if !anchor.is_ca() {
                return Err(Refused::NotACa(index));
            }
            let foreign = anchor.names().iter().find_map(|name| match name {
                San::Spiffe(id) if !id.in_domain(trust_domain) => Some(id.to_string()),
                _ => None,
            });
            if let Some(id) = foreign {
                return Err(Refused::OtherTrustDomain { index, id });
            }
            if !distinct.contains(&der) {
                distinct.push(der);
            }
        }
        if distinct.is_empty() {
            return Err(Refused::Empty);
        }
        self.anchors = distinct;
        self.bundle(trust_domain, 0)?.check_size()?;
        Ok(self)
    }

    /// As a bundle that is published, under a number of this server's.
    pub(super) fn bundle(
        &self,
        trust_domain: &TrustDomain,
        version: u64,
    ) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(trust_domain.clone(), version, self.anchors.clone())
    }

    /// The roots in DER.
    pub(super) fn anchors(&self) -> &[Vec<u8>] {
        &self.anchors
    }

    /// Whether it says something else than `last`.
    ///
    /// # Errors
    /// When it is older, or nobody can say which of the two is the newer.
    pub(super) fn follows(&self, last: &Self) -> Result<bool, Refused> {
        let is_other = self.anchors != last.anchors;
        match (last.sequence, self.sequence) {
            (Some(last), Some(next)) if next < last => Err(Refused::WentBack { last, next }),
            (Some(last), None) => Err(Refused::NoSequence(last)),
            (Some(last), Some(next)) if next == last && is_other => {
                Err(Refused::SameSequence(last))
            }
            _ => Ok(is_other || self.sequence != last.sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
    use serde_json::{Value, json};

    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::parse("other.example").unwrap()
    }

    fn certificate(id: Option<&str>, is_ca: bool) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let id = id.map(|id| SanType::URI(id.try_into().unwrap()));
        params.subject_alt_names.extend(id);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn key(der: &[u8]) -> Value {
        json!({"use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(der)]})
    }

    fn read(document: &Value) -> Result<Document, Refused> {
        Document::read(&domain(), document.to_string().as_bytes())
    }

    #[test]
    fn roots_are_read_and_other_keys_are_not() {
        let root = certificate(Some("spiffe://other.example"), true);
        let jwt = json!({"use": "jwt-svid", "kty": "EC", "kid": "k"});
        let unused = json!({"kty": "EC"});
        let document = read(&json!({
            "keys": [jwt, key(&root), unused, key(&root)],
            "spiffe_sequence": 7, "spiffe_refresh_hint": 60, "more": {},
        }))
        .unwrap();
        assert_eq!(document.anchors(), std::slice::from_ref(&root));
        assert_eq!(document.sequence, Some(7));
        assert_eq!(document.refresh_hint, Some(Duration::from_secs(60)));
        let from_file = |bytes: &[u8]| Document::from_file(&domain(), bytes).unwrap();
        let pem = Certificate::parse(root.clone()).unwrap().to_pem();
        assert_eq!(
            from_file(pem.as_bytes()).anchors(),
            std::slice::from_ref(&root)
        );
        let json = json!({"keys": [key(&root)]}).to_string();
        assert_eq!(from_file(json.as_bytes()).anchors(), [root]);
    }

    #[test]
    fn a_bundle_that_cannot_be_one_is_refused() {
        let root = certificate(None, true);
        let leaf = certificate(None, false);
        let foreign = certificate(Some("spiffe://example.org"), true);
        let two = STANDARD.encode(&root);
        for (document, refused) in [
            (json!({"keys": []}), Refused::Empty),
            (
                json!({"keys": [{"use": "jwt-svid"}], "spiffe_sequence": 9}),
                Refused::Empty,
            ),
            (
                json!({"keys": [{"use": "x509-svid", "x5c": [two, two]}]}),
                Refused::NotOneCertificate(1),
            ),
            (
                json!({"keys": [{"use": "x509-svid"}]}),
                Refused::NotOneCertificate(1),
            ),
            (
                json!({"keys": [{"use": "x509-svid", "x5c": ["*"]}]}),
                Refused::NotOneCertificate(1),
            ),
            (
                json!({"keys": [key(&root), key(&leaf)]}),
                Refused::NotACa(2),
            ),
            (
                json!({"keys": [key(&foreign)]}),
                Refused::OtherTrustDomain {
                    index: 1,
                    id: "spiffe://example.org".to_owned(),
                },
            ),
        ] {
            assert_eq!(read(&document), Err(refused), "{document}");
        }
        for text in [
            "",
            "[]",
            "{}",
            "{\"keys\": {}}",
            "{\"keys\": [], \"spiffe_sequence\": -1}",
        ] {
            let refused = Document::read(&domain(), text.as_bytes()).unwrap_err();
            assert!(
                matches!(refused, Refused::NotABundle(_)),
                "{text}: {refused}"
            );
        }
        let broken = json!({"keys": [key(b"no certificate")]});
        let refused = read(&broken).unwrap_err();
        assert!(
            matches!(refused, Refused::Certificate { index: 1, .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_bundle_follows_or_is_refused() {
        let [one, two] = [certificate(None, true), certificate(None, true)];
        let document = |root: &[u8], sequence: Option<u64>| {
            read(&json!({"keys": [key(root)], "spiffe_sequence": sequence})).unwrap()
        };
        let last = document(&one, Some(5));
        assert_eq!(document(&one, Some(5)).follows(&last), Ok(false));
        assert_eq!(document(&one, Some(6)).follows(&last), Ok(true));
        assert_eq!(document(&two, Some(6)).follows(&last), Ok(true));
        let went_back = Refused::WentBack { last: 5, next: 4 };
        assert_eq!(document(&two, Some(4)).follows(&last), Err(went_back));
        assert_eq!(
            document(&two, Some(5)).follows(&last),
            Err(Refused::SameSequence(5))
        );
        assert_eq!(
            document(&one, None).follows(&last),
            Err(Refused::NoSequence(5))
        );
        let without = document(&one, None);
        assert_eq!(document(&one, None).follows(&without), Ok(false));
        assert_eq!(document(&two, None).follows(&without), Ok(true));
        assert_eq!(document(&two, Some(1)).follows(&without), Ok(true));
    }
}
