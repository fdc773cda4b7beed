//! Public keys, parsed once and ready to verify.

mod error;
mod kind;
mod rsa;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use der::Tag;
use der::oid::ObjectIdentifier;

use super::algorithm::SignatureAlgorithm;
use super::read::{self, DerReader};
use crate::digest::{hex, sha1, sha256};

pub use error::KeyError;
pub use kind::{KeyKind, NoCaKeyKind, UnknownKeyKind};
use rsa::RsaLimits;

/// For each curve, everything before the point in a SubjectPublicKeyInfo (RFC 5480 §2), including
/// the octet for "uncompressed", and the total length. DER allows no other form.
const P256: (&[u8], usize) = (
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
      \x03\x42\x00\x04",
    91,
);
const P384: (&[u8], usize) = (
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\
      \x04",
    120,
);
const P521: (&[u8], usize) = (
    b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\
      \x86\x00\x04",
    158,
);
/// The same for Ed25519 (RFC 8410 §4), whose point has no octet before it.
const ED25519: (&[u8], usize) = (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 44);
/// The contents of an RSA key's AlgorithmIdentifier (RFC 3279 §2.3.1).
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// The structure that errors name.
const STRUCTURE: &str = "SubjectPublicKeyInfo";

/// A public key of a supported kind, parsed once for all verifications. Cheap to clone; equal if
/// the DER is equal.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki: Box<[u8]>,
    kind: KeyKind,
    /// The start of the subjectPublicKey BIT STRING's contents in `spki`; they extend to its end.
    key_start: usize,
    /// For the kind's default algorithm.
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Parses the SubjectPublicKeyInfo in DER of a key to be certified, with nothing after it.
    ///
    /// # Errors
    /// [`KeyError`] when it is not canonical DER, of another kind, an RSA key outside 2048 to 4096
    /// bits or with an exponent that is even or below 65537, or a point that is not on its curve.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::parse(der, RsaLimits::CERTIFIED)
    }

    /// The same for a key that another CA certified: RSA up to 8192 bits, and exponents from 3 up,
    /// with which roots of the 2000s still verify.
    pub(super) fn from_certificate(der: &[u8]) -> Result<Self, KeyError> {
        Self::parse(der, RsaLimits::FOREIGN)
    }

    fn parse(der: &[u8], limits: RsaLimits) -> Result<Self, KeyError> {
        let (kind, key_start) = classify(der, limits)?;
        let key = der.get(key_start..).unwrap_or_default();
        let parsed =
            ParsedPublicKey::new(verification_algorithm(kind, kind.default_algorithm())?, key)
                .map_err(|_| KeyError::Invalid { kind })?;
        Ok(Self(Arc::new(Inner {
            spki: der.into(),
            kind,
            key_start,
            parsed,
        })))
    }

    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    pub fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.0.spki)
    }

    /// The key identifier of RFC 7093 §2, method 1: the first 160 bits of SHA-256 of the
    /// subjectPublicKey BIT STRING's contents.
    pub fn key_id(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.iter_mut()
            .zip(sha256(self.key_bytes()))
            .for_each(|(to, from)| *to = from);
        id
    }

    /// The key identifier of RFC 5280 §4.2.1.2, method 1: SHA-1 of the same contents. It names a key, and
    /// nothing depends on that no other key has it.
    pub fn sha1_key_id(&self) -> [u8; 20] {
        sha1(self.key_bytes())
    }

    /// # Errors
    /// [`KeyError::AlgorithmMismatch`] when the algorithm is not for this kind of key,
    /// [`KeyError::BadSignature`] when the signature does not verify.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), KeyError> {
        let verified = if algorithm == self.0.kind.default_algorithm() {
            self.0.parsed.verify_sig(message, signature)
        } else {
            UnparsedPublicKey::new(
                verification_algorithm(self.0.kind, algorithm)?,
                self.key_bytes(),
            )
            .verify(message, signature)
        };
        verified.map_err(|_| KeyError::BadSignature {
            kind: self.0.kind,
            algorithm,
        })
    }

    /// The contents of the subjectPublicKey BIT STRING: a point, or an RSAPublicKey.
    pub(super) fn key_bytes(&self) -> &[u8] {
        self.0.spki.get(self.0.key_start..).unwrap_or_default()
    }
}

/// The kind of a SubjectPublicKeyInfo, and the start of its key.
fn classify(der: &[u8], limits: RsaLimits) -> Result<(KeyKind, usize), KeyError> {
    for ((prefix, length), kind, key_octets_in_prefix) in [
        (P256, KeyKind::EcdsaP256, 1),
        (P384, KeyKind::EcdsaP384, 1),
        (P521, KeyKind::EcdsaP521, 1),
        (ED25519, KeyKind::Ed25519, 0),
    ] {
        if der.len() == length && der.starts_with(prefix) {
            return Ok((kind, prefix.len() - key_octets_in_prefix));
        }
    }
    let mut info = DerReader::within(der, Tag::Sequence, STRUCTURE)?;
    let algorithm = info.expect(Tag::Sequence)?;
    let key = info.bit_string_octets()?;
    info.finish()?;
    if algorithm == RSA {
        let bits = rsa::bits(key, limits)?;
        return Ok((KeyKind::Rsa { bits }, read::range_of(der, key).start));
    }
    Err(unsupported(algorithm, key))
}

/// The error for an unsupported key, with the name of its kind.
fn unsupported(algorithm: &[u8], key: &[u8]) -> KeyError {
    let mut oids = Vec::new();
    if let Ok(mut fields) = DerReader::new(algorithm, STRUCTURE) {
        while let Ok(contents) = fields.expect(Tag::ObjectIdentifier) {
            oids.extend(ObjectIdentifier::from_bytes(contents).map(|oid| oid.to_string()));
        }
    }
    let oids: Vec<&str> = oids.iter().map(String::as_str).collect();
    let kind = match oids.as_slice() {
        [
            "1.2.840.10045.2.1",
            "1.2.840.10045.3.1.7" | "1.3.132.0.34" | "1.3.132.0.35",
        ] => {
            return match key.first() {
                Some(2 | 3) => KeyError::CompressedPoint,
                _ => KeyError::InvalidPoint,
            };
        }
        ["1.2.840.10045.2.1", curve] => format!("ECDSA on curve {curve}"),
        ["1.2.840.10045.2.1"] => "ECDSA on an unnamed curve".into(),
        ["1.2.840.113549.1.1.1"] => "RSA without its NULL parameters".into(),
        ["1.2.840.113549.1.1.10"] => "RSA restricted to PSS".into(),
        ["1.2.840.10040.4.1", ..] => "DSA".into(),
        ["1.3.101.113"] => "Ed448".into(),
        ["1.3.101.110"] => "X25519".into(),
        // The first two are the algorithm and its parameters; a malicious one may have hundreds.
        other => other.iter().take(2).copied().collect::<Vec<_>>().join(" "),
    };
    KeyError::Unsupported { kind }
}

fn verification_algorithm(
    kind: KeyKind,
    algorithm: SignatureAlgorithm,
) -> Result<&'static dyn VerificationAlgorithm, KeyError> {
    use SignatureAlgorithm as S;
    Ok(match (kind, algorithm) {
        (KeyKind::EcdsaP256, S::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::EcdsaP256, S::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::EcdsaP256, S::EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyKind::EcdsaP384, S::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::EcdsaP384, S::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::EcdsaP384, S::EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyKind::EcdsaP521, S::EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (KeyKind::EcdsaP521, S::EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (KeyKind::EcdsaP521, S::EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa { .. }, S::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, S::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, S::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Rsa { .. }, S::RsaPssSha256) => &signature::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, S::RsaPssSha384) => &signature::RSA_PSS_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, S::RsaPssSha512) => &signature::RSA_PSS_2048_8192_SHA512,
        (KeyKind::Ed25519, S::Ed25519) => &signature::ED25519,
        _ => return Err(KeyError::AlgorithmMismatch { kind, algorithm }),
    })
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = hex(&self.fingerprint());
        write!(f, "PublicKey({}, sha256 {fingerprint})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::super::write::{INTEGER, SEQUENCE, element};
    use super::*;

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, KeyError> {
        let integers = [element(INTEGER, &[modulus]), element(INTEGER, &[exponent])];
        let key = element(SEQUENCE, &[&integers[0], &integers[1]]);
        let mut bits = Vec::new();
        super::super::write::bit_string(&mut bits, &key);
        PublicKey::from_spki_der(&element(SEQUENCE, &[&element(SEQUENCE, &[RSA]), &bits]))
    }

    #[test]
    fn rsa_moduli_and_exponents_have_bounds() {
        let modulus = |octets: usize, top: u8, low: u8| {
            let mut modulus = vec![0x5a; octets];
            (modulus[0], modulus[octets - 1]) = (top, low);
            if top >= 0x80 {
                [&[0], modulus.as_slice()].concat()
            } else {
                modulus
            }
        };
        const E: &[u8] = &[1, 0, 1];
        let bits = |key: PublicKey| match key.kind() {
            KeyKind::Rsa { bits } => bits,
            other => panic!("{other}"),
        };
        assert_eq!(rsa(&modulus(256, 0x80, 1), E).map(bits), Ok(2048));
        assert_eq!(rsa(&modulus(257, 1, 1), E).map(bits), Ok(2049));
        assert_eq!(rsa(&modulus(512, 0xff, 1), E).map(bits), Ok(4096));
        assert_eq!(
            rsa(&modulus(256, 0x7f, 1), E),
            Err(KeyError::RsaSize {
                bits: 2047,
                max: 4096
            })
        );
        assert_eq!(
            rsa(&modulus(513, 1, 1), E),
            Err(KeyError::RsaSize {
                bits: 4097,
                max: 4096
            })
        );
        assert_eq!(rsa(&[0], E), Err(KeyError::RsaSize { bits: 0, max: 4096 }));
        assert_eq!(
            rsa(&modulus(256, 0x80, 2), E),
            Err(KeyError::RsaModulusEven)
        );
        let good = modulus(256, 0x80, 1);
        for exponent in [
            &[0][..],
            &[1],
            &[3],
            &[1, 0, 0],
            &[1, 0, 2],
            &[1, 0, 0, 0, 0, 1],
        ] {
            let error = rsa(&good, exponent).unwrap_err();
            assert!(matches!(error, KeyError::RsaExponent { .. }), "{error}");
        }
        assert!(rsa(&good, &[1, 0, 3]).is_ok());
        // Negative numbers, and a redundant leading zero.
        for (modulus, exponent) in [
            (&good[1..], E),
            (&good, &[0xff][..]),
            (&good, &[0, 1, 0, 1]),
            (&good, &[]),
        ] {
            assert!(matches!(
                rsa(modulus, exponent),
                Err(KeyError::Malformed(_))
            ));
        }
    }

    #[test]
    fn kinds_go_to_text_and_back() {
        for text in [
            "ecdsa-p256",
            "ecdsa-p384",
            "ecdsa-p521",
            "rsa-2048",
            "rsa-3072",
            "rsa-4096",
            "ed25519",
        ] {
            assert_eq!(text.parse::<KeyKind>().unwrap().slug(), text);
        }
        assert!("rsa-1024".parse::<KeyKind>().is_err());
        assert_eq!(KeyKind::for_ca("rsa-2048"), Ok(KeyKind::Rsa { bits: 2048 }));
        // What is suggested is possible.
        for text in ["rsa", "rsa-1024", "ed25519", "ecdsa-p521"] {
            let error = KeyKind::for_ca(text).unwrap_err().to_string();
            let (_, possible) = error.split_once("write ").unwrap();
            let possible: Vec<_> = possible
                .split([',', ' '])
                .filter(|s| s.contains('-'))
                .collect();
            assert_eq!(possible.len(), 5, "{error}");
            assert!(
                possible.iter().all(|kind| KeyKind::for_ca(kind).is_ok()),
                "{error}"
            );
        }
        assert_eq!(KeyKind::Rsa { bits: 3072 }.to_string(), "RSA 3072");
        for algorithm in ["ecdsa-sha256", "rsa-sha512", "ed25519"] {
            assert_eq!(
                algorithm.parse::<SignatureAlgorithm>().unwrap().as_str(),
                algorithm
            );
        }
    }
}
