//! Conversions between X.509 and PKCS#11: mechanisms, digests, signatures, public keys.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, digest};
use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::fault::Fault;
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// For which algorithms the token computes the digest itself, by what C_GetMechanismInfo says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HashedInToken {
    rsa: bool,
    ecdsa_sha256: bool,
    ecdsa_sha384: bool,
}

impl HashedInToken {
    /// RSA where the token can: with CKM_RSA_PKCS, TPMs and modules in FIPS mode ask for more rights
    /// than a key for signatures has. ECDSA only where it must: the digest is shorter.
    pub(super) fn choose(signs_with: impl Fn(MechanismType) -> bool) -> Self {
        let must = |hashed| !signs_with(MechanismType::ECDSA) && signs_with(hashed);
        Self {
            rsa: signs_with(MechanismType::SHA256_RSA_PKCS),
            ecdsa_sha256: must(MechanismType::ECDSA_SHA256),
            ecdsa_sha384: must(MechanismType::ECDSA_SHA384),
        }
    }

    /// Of C_GenerateKeyPair, and the first that C_SignInit is called with.
    pub(super) fn mechanisms(
        self,
        kind: KeyKind,
    ) -> (Option<MechanismType>, Option<MechanismType>) {
        let generation = generation(kind).map(|(mechanism, _)| mechanism.mechanism_type());
        let signing = kind
            .ca_algorithm()
            .and_then(|algorithm| signing(algorithm, self.of(algorithm), &[]).ok())
            .map(|(mechanism, _)| mechanism.mechanism_type());
        (generation, signing)
    }

    fn of(self, algorithm: SignatureAlgorithm) -> bool {
        match algorithm {
            SignatureAlgorithm::RsaSha256 => self.rsa,
            SignatureAlgorithm::EcdsaSha384 => self.ecdsa_sha384,
            _ => self.ecdsa_sha256,
        }
    }
}

/// C_SignInit and C_Sign. A key may allow only one of the two mechanisms (CKA_ALLOWED_MECHANISMS).
pub(super) fn sign(
    session: &Session,
    key: ObjectHandle,
    algorithm: SignatureAlgorithm,
    hashed: HashedInToken,
    message: &[u8],
) -> Result<Vec<u8>, Fault> {
    let attempt = |in_token| -> Result<Vec<u8>, Fault> {
        let (mechanism, input) = signing(algorithm, in_token, message)?;
        Ok(session.sign(&mechanism, key, &input)?)
    };
    let first = hashed.of(algorithm);
    attempt(first).or_else(|fault| match fault.code() {
        Some(RvError::MechanismInvalid) => attempt(!first).map_err(|_| fault),
        _ => Err(fault),
    })
}

/// The mechanism for C_SignInit and the input of C_Sign: the message itself, the digest for CKM_ECDSA,
/// DigestInfo for CKM_RSA_PKCS.
fn signing(
    algorithm: SignatureAlgorithm,
    in_token: bool,
    message: &[u8],
) -> Result<(Mechanism<'static>, Vec<u8>), Fault> {
    use SignatureAlgorithm as S;
    Ok(match (algorithm, in_token) {
        (S::EcdsaSha256, true) => (Mechanism::EcdsaSha256, message.to_vec()),
        (S::EcdsaSha384, true) => (Mechanism::EcdsaSha384, message.to_vec()),
        (S::RsaSha256, true) => (Mechanism::Sha256RsaPkcs, message.to_vec()),
        (S::EcdsaSha256, false) => (Mechanism::Ecdsa, hash(&SHA256, message)),
        (S::EcdsaSha384, false) => (Mechanism::Ecdsa, hash(&SHA384, message)),
        (S::RsaSha256, false) => {
            let mut info = SHA256_DIGEST_INFO.to_vec();
            info.extend(hash(&SHA256, message));
            (Mechanism::RsaPkcs, info)
        }
        (other, _) => {
            return Err(Fault::other(
                "C_SignInit",
                format!("keys in a token do not sign with {other}"),
            ));
        }
    })
}

fn hash(algorithm: &'static Algorithm, message: &[u8]) -> Vec<u8> {
    digest(algorithm, message).as_ref().to_vec()
}

/// The mechanism for C_GenerateKeyPair, and the attributes of the public key that set its kind.
pub(super) fn generation(kind: KeyKind) -> Option<(Mechanism<'static>, Vec<Attribute>)> {
    let curve = |oid: ObjectIdentifier| oid.to_der().ok().map(Attribute::EcParams);
    match kind {
        KeyKind::EcdsaP256 => Some((Mechanism::EccKeyPairGen, vec![curve(P256)?])),
        KeyKind::EcdsaP384 => Some((Mechanism::EccKeyPairGen, vec![curve(P384)?])),
        KeyKind::Rsa {
            bits: bits @ (2048 | 3072 | 4096),
        } => {
            let exponent = Attribute::PublicExponent(vec![1, 0, 1]);
            Some((
                Mechanism::RsaPkcsKeyPairGen,
                vec![Attribute::ModulusBits(u64::from(bits).into()), exponent],
            ))
        }
        _ => None,
    }
}

#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Converts the output of C_Sign to the signature of a certificate: for ECDSA r‖s becomes an
/// ECDSA-Sig-Value (RFC 3279 §2.2.3); RSA is unchanged.
pub(super) fn signature(kind: KeyKind, raw: Vec<u8>) -> Result<Vec<u8>, String> {
    let expected = match kind {
        KeyKind::EcdsaP256 => 64,
        KeyKind::EcdsaP384 => 96,
        KeyKind::Rsa { bits } => usize::from(bits).div_ceil(8),
        other => return Err(format!("{other} keys are not supported")),
    };
    if raw.len() != expected {
        return Err(format!(
            "the token's signature has {} bytes instead of {expected}",
            raw.len()
        ));
    }
    if matches!(kind, KeyKind::Rsa { .. }) {
        return Ok(raw);
    }
    let (r, s) = raw.split_at(expected / 2);
    if [r, s].iter().any(|half| half.iter().all(|&byte| byte == 0)) {
        return Err("the token's signature has a zero half".into());
    }
    let half = |bytes| UintRef::new(bytes).map_err(|error| error.to_string());
    EcdsaSigValue {
        r: half(r)?,
        s: half(s)?,
    }
    .to_der()
    .map_err(|error| error.to_string())
}

/// SubjectPublicKeyInfo of an EC key from CKA_EC_PARAMS and CKA_EC_POINT.
pub(super) fn ec_public_key(params: &[u8], point: &[u8]) -> Result<PublicKey, String> {
    let curve: ObjectIdentifier =
        Decode::from_der(params).map_err(|_| "its CKA_EC_PARAMS name no curve".to_owned())?;
    let point = uncompressed(&curve, point).unwrap_or(point);
    public_key(EC_PUBLIC_KEY, AnyRef::from(&curve), point)
}

/// The uncompressed point in CKA_EC_POINT. It is an OCTET STRING; some tokens omit its header, and old
/// ones make it a BIT STRING. The length decides: a raw point whose X begins with the length of the
/// rest parses as an OCTET STRING too.
fn uncompressed<'a>(curve: &ObjectIdentifier, value: &'a [u8]) -> Option<&'a [u8]> {
    let length = match *curve {
        P256 => 65,
        P384 => 97,
        _ => return None,
    };
    let is_point = |bytes: &[u8]| bytes.len() == length && bytes.first() == Some(&4);
    if is_point(value) {
        return Some(value);
    }
    let octets = <&OctetStringRef>::from_der(value).map(OctetStringRef::as_bytes);
    let bits = || BitStringRef::from_der(value).ok()?.as_bytes();
    octets.ok().or_else(bits).filter(|inner| is_point(inner))
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// SubjectPublicKeyInfo of an RSA key from CKA_MODULUS and CKA_PUBLIC_EXPONENT.
pub(super) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, String> {
    let number = |bytes| UintRef::new(bytes).map_err(|error| error.to_string());
    let key = RsaPublicKey {
        modulus: number(modulus)?,
        exponent: number(exponent)?,
    };
    let key = key.to_der().map_err(|error| error.to_string())?;
    public_key(RSA_ENCRYPTION, AnyRef::NULL, &key)
}

fn public_key(
    oid: ObjectIdentifier,
    parameters: AnyRef<'_>,
    key: &[u8],
) -> Result<PublicKey, String> {
    let info = SubjectPublicKeyInfo {
        algorithm: AlgorithmIdentifier {
            oid,
            parameters: Some(parameters),
        },
        subject_public_key: BitStringRef::from_bytes(key).map_err(|error| error.to_string())?,
    };
    let der = info.to_der().map_err(|error| error.to_string())?;
    PublicKey::from_spki_der(&der).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    #[test]
    fn a_raw_signature_becomes_one_that_verifies() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let mut wrapped = vec![0x04, 0x41];
        wrapped.extend_from_slice(point);
        let params = P256.to_der().unwrap();
        let key = ec_public_key(&params, &wrapped).unwrap();
        assert_eq!(key, ec_public_key(&params, point).unwrap());
        for _ in 0..600 {
            let raw = pair
                .sign(&SystemRandom::new(), b"m")
                .unwrap()
                .as_ref()
                .to_vec();
            let der = signature(KeyKind::EcdsaP256, raw).unwrap();
            key.verify(SignatureAlgorithm::EcdsaSha256, b"m", &der)
                .unwrap();
        }
    }

    #[test]
    fn a_raw_point_is_told_from_an_octet_string_by_its_length() {
        for (curve, field) in [(P256, 32), (P384, 48)] {
            // 04 and any first octet of X: also the one that is the length of the rest.
            for first in 0..=255 {
                let mut raw = vec![first; 2 * field + 1];
                raw[0] = 4;
                assert_eq!(
                    uncompressed(&curve, &raw),
                    Some(raw.as_slice()),
                    "{first:02x}"
                );
                let length = u8::try_from(raw.len()).unwrap();
                let octets = [&[0x04, length], raw.as_slice()].concat();
                assert_eq!(uncompressed(&curve, &octets), Some(raw.as_slice()));
                let bits = [&[0x03, length + 1, 0], raw.as_slice()].concat();
                assert_eq!(uncompressed(&curve, &bits), Some(raw.as_slice()));
                for odd in [&raw[1..], &octets[1..], &[raw.as_slice(), &[0]].concat()] {
                    // `octets` without its first octet begins with the length, not with 04.
                    assert_eq!(uncompressed(&curve, odd), None, "{odd:02x?}");
                }
            }
        }
    }

    #[test]
    fn the_token_hashes_for_rsa_where_it_can_and_for_ecdsa_where_it_must() {
        use MechanismType as M;
        let choose = |listed: &[M]| HashedInToken::choose(|one| listed.contains(&one));
        let all = [
            M::RSA_PKCS,
            M::SHA256_RSA_PKCS,
            M::ECDSA,
            M::ECDSA_SHA256,
            M::ECDSA_SHA384,
        ];
        for (listed, rsa, p256, p384) in [
            (&all[..], true, false, false),
            (&[M::RSA_PKCS, M::ECDSA], false, false, false),
            (&[M::ECDSA_SHA256], false, true, false),
            (&[M::ECDSA_SHA384, M::SHA256_RSA_PKCS], true, false, true),
            // A module that lists nothing is asked for what most have.
            (&[], false, false, false),
        ] {
            let chosen = choose(listed);
            let algorithms = [
                SignatureAlgorithm::RsaSha256,
                SignatureAlgorithm::EcdsaSha256,
                SignatureAlgorithm::EcdsaSha384,
            ];
            let found = algorithms.map(|algorithm| chosen.of(algorithm));
            assert_eq!(found, [rsa, p256, p384], "{listed:?}");
        }
    }

    #[test]
    fn impossible_signatures_and_unsupported_kinds_are_refused() {
        assert!(signature(KeyKind::EcdsaP256, vec![1; 63]).is_err());
        assert!(signature(KeyKind::EcdsaP256, vec![1; 96]).is_err());
        assert!(signature(KeyKind::EcdsaP384, [vec![0; 48], vec![1; 48]].concat()).is_err());
        assert!(signature(KeyKind::Rsa { bits: 2048 }, vec![1; 255]).is_err());
        assert!(signature(KeyKind::Ed25519, vec![1; 64]).is_err());
        assert!(ec_public_key(b"\x05\x00", &[4; 65]).is_err());
        assert!(signing(SignatureAlgorithm::Ed25519, false, b"m").is_err());
        assert!(signing(SignatureAlgorithm::Ed25519, true, b"m").is_err());
        assert!(generation(KeyKind::Rsa { bits: 1024 }).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

        #[test]
        fn halves_survive_the_der(raw in proptest::collection::vec(any::<u8>(), 96)) {
            prop_assume!(raw[..48].iter().any(|b| *b != 0) && raw[48..].iter().any(|b| *b != 0));
            let der = signature(KeyKind::EcdsaP384, raw.clone()).unwrap();
            let back = EcdsaSigValue::from_der(&der).unwrap();
            let strip = |half: &[u8]| half.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>();
            prop_assert_eq!(back.r.as_bytes(), strip(&raw[..48]));
            prop_assert_eq!(back.s.as_bytes(), strip(&raw[48..]));
        }
    }
}
