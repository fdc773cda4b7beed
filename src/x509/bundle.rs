//! Trust bundles: the anchors of a trust domain, as PEM and as SPIFFE JSON (SPIFFE Trust Domain and
//! Bundle §4).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use der::Tag;
use serde_json::{Map, Value, json};

use super::cert::{CertError, Certificate};
use super::files::MAX_CERTIFICATES;
use super::key::{KeyKind, PublicKey};
use super::name::TrustDomain;
use super::read::{self, DerReader};

/// The most bytes of a published bundle in PEM: a ConfigMap holds 1 MiB.
pub const MAX_BUNDLE_BYTES: usize = 1_000_000;

/// A version of a trust domain's anchors: not empty, without duplicates, in published order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    sequence: u64,
    anchors: Vec<Certificate>,
}

impl TrustBundle {
    /// From the anchors in DER, in published order.
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        anchors: Vec<Vec<u8>>,
    ) -> Result<Self, BundleError> {
        let mut parsed: Vec<Certificate> = Vec::with_capacity(anchors.len());
        for (index, der) in anchors.into_iter().enumerate() {
            let index = index + 1;
            if parsed.iter().any(|earlier| earlier.der() == der) {
                return Err(BundleError::Duplicate { index });
            }
            let anchor = Certificate::parse(der)
                .map_err(|cause| BundleError::Certificate { index, cause })?;
            parsed.push(anchor);
        }
        if parsed.is_empty() {
            return Err(BundleError::Empty { trust_domain });
        }
        Ok(Self {
            trust_domain,
            sequence,
            anchors: parsed,
        })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The number of this version; a later one is greater.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn anchors(&self) -> &[Certificate] {
        &self.anchors
    }

    /// SHA-256 over the anchors, each preceded by its length in eight octets.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        for anchor in &self.anchors {
            let length = u64::try_from(anchor.der().len()).unwrap_or(u64::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(anchor.der());
        }
        let mut out = [0; 32];
        out.iter_mut()
            .zip(hash.finish().as_ref())
            .for_each(|(to, from)| *to = *from);
        out
    }

    /// Whether every client can read it: an older, larger version may still be published.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`].
    pub fn check_size(&self) -> Result<(), BundleError> {
        let (anchors, bytes) = (self.anchors.len(), self.to_pem().len());
        match anchors > MAX_CERTIFICATES || bytes > MAX_BUNDLE_BYTES {
            true => Err(BundleError::TooLarge {
                trust_domain: self.trust_domain.clone(),
                anchors,
                bytes,
            }),
            false => Ok(()),
        }
    }

    pub fn to_pem(&self) -> String {
        self.anchors.iter().map(Certificate::to_pem).collect()
    }

    /// The bundle in SPIFFE's JSON. `refresh_hint`, in whole seconds, tells clients how often to
    /// fetch it.
    pub fn to_spiffe_json(&self, refresh_hint: Duration) -> String {
        let keys: Vec<Value> = self.anchors.iter().map(jwk).collect();
        json!({
            "keys": keys,
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": refresh_hint.as_secs(),
        })
        .to_string()
    }
}

/// A JWK (RFC 7517) of `use` x509-svid, with the certificate in x5c.
fn jwk(anchor: &Certificate) -> Value {
    let mut jwk = Map::new();
    jwk.insert("use".into(), "x509-svid".into());
    for (name, value) in parameters(anchor.public_key()) {
        jwk.insert(name.into(), value.into());
    }
    jwk.insert("x5c".into(), json!([STANDARD.encode(anchor.der())]));
    Value::Object(jwk)
}

/// The parameters of a key's kind (RFC 7518 §6, RFC 8037 §2).
fn parameters(key: &PublicKey) -> Vec<(&'static str, String)> {
    let url = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    let bytes = key.key_bytes();
    let curve = match key.kind() {
        KeyKind::EcdsaP256 => "P-256",
        KeyKind::EcdsaP384 => "P-384",
        KeyKind::EcdsaP521 => "P-521",
        KeyKind::Ed25519 => {
            return vec![
                ("kty", "OKP".into()),
                ("crv", "Ed25519".into()),
                ("x", url(bytes)),
            ];
        }
        KeyKind::Rsa { .. } => {
            let (modulus, exponent) = rsa(bytes).unwrap_or_default();
            return vec![
                ("kty", "RSA".into()),
                ("n", url(modulus)),
                ("e", url(exponent)),
            ];
        }
    };
    // An uncompressed point: 04, then x and y of equal length.
    let point = bytes.get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    vec![
        ("kty", "EC".into()),
        ("crv", curve.into()),
        ("x", url(x)),
        ("y", url(y)),
    ]
}

/// Modulus and exponent of a valid RSAPublicKey.
fn rsa(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const WHAT: &str = "RSAPublicKey";
    let mut fields = DerReader::within(bytes, Tag::Sequence, WHAT).ok()?;
    let modulus = read::unsigned(fields.expect(Tag::Integer).ok()?, WHAT).ok()?;
    let exponent = read::unsigned(fields.expect(Tag::Integer).ok()?, WHAT).ok()?;
    Some((modulus, exponent))
}

/// Why certificates do not form a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the trust bundle of {trust_domain} would be empty: nothing would verify with it")]
    Empty { trust_domain: TrustDomain },
    #[error(
        "the trust bundle of {trust_domain} would have {anchors} trust anchors and {bytes} bytes of \
         PEM; at most {MAX_CERTIFICATES} and {MAX_BUNDLE_BYTES} can be read by clients and written to \
         clusters"
    )]
    TooLarge {
        trust_domain: TrustDomain,
        anchors: usize,
        bytes: usize,
    },
    #[error("anchor {index} of the trust bundle is a duplicate")]
    Duplicate {
        /// Counted from one.
        index: usize,
    },
    #[error("anchor {index} of the trust bundle: {cause}")]
    Certificate {
        /// Counted from one.
        index: usize,
        cause: CertError,
    },
}
