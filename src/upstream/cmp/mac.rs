//! Protection by a shared secret: id-PasswordBasedMac (RFC 4211 §4.4) and PBMAC1 (RFC 8018 §7.1), as
//! RFC 9481 §6.1 profiles them.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode, Sequence};
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

const PASSWORD_BASED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113533.7.66.13");
const PBMAC1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.14");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const HMAC_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.7");
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");

/// What openssl takes at most is 100000.
const PASSWORD_BASED_ITERATIONS: u32 = 10_000;
const PBKDF2_ITERATIONS: u32 = 100_000;
/// More would let a stranger who answers keep this server busy.
const MOST_ITERATIONS: u32 = 1_000_000;
const SALT: usize = 16;
const KEY: usize = 32;

/// How a shared secret protects what this server sends. What it receives may have either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum MacKind {
    #[default]
    PasswordBased,
    Pbmac1,
}

/// PBMParameter.
#[derive(Debug, Sequence)]
struct PasswordBased {
    salt: OctetString,
    one_way: AlgorithmIdentifierOwned,
    iterations: u32,
    mac: AlgorithmIdentifierOwned,
}

/// PBMAC1-params.
#[derive(Debug, Sequence)]
struct Pbmac1 {
    derivation: AlgorithmIdentifierOwned,
    mac: AlgorithmIdentifierOwned,
}

/// PBKDF2-params.
#[derive(Debug, Sequence)]
struct Pbkdf2 {
    salt: OctetString,
    iterations: u32,
    length: Option<u16>,
    /// HMAC with SHA-1 without it.
    function: Option<AlgorithmIdentifierOwned>,
}

/// Why a protection cannot be computed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MacError {
    #[error("{0} is no algorithm for a shared secret that is known here")]
    Unknown(ObjectIdentifier),
    #[error("it asks for {0} iterations; 1 to {MOST_ITERATIONS} are done here")]
    Iterations(u32),
    #[error("it asks for a key of {0} bytes")]
    Length(u16),
    #[error(transparent)]
    Malformed(#[from] der::Error),
    #[error("no random numbers")]
    Random,
}

impl MacKind {
    /// An AlgorithmIdentifier with a new salt.
    pub(super) fn algorithm(self) -> Result<AlgorithmIdentifierOwned, MacError> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| MacError::Random)?;
        let salt = OctetString::new(salt)?;
        match self {
            Self::PasswordBased => with(
                PASSWORD_BASED,
                &PasswordBased {
                    salt,
                    one_way: plain(SHA256),
                    iterations: PASSWORD_BASED_ITERATIONS,
                    mac: plain(HMAC_SHA256),
                },
            ),
            Self::Pbmac1 => {
                let derivation = Pbkdf2 {
                    salt,
                    iterations: PBKDF2_ITERATIONS,
                    length: u16::try_from(KEY).ok(),
                    function: Some(with(HMAC_SHA256, &der::asn1::Null)?),
                };
                let mac = with(HMAC_SHA256, &der::asn1::Null)?;
                let derivation = with(PBKDF2, &derivation)?;
                with(PBMAC1, &Pbmac1 { derivation, mac })
            }
        }
    }
}

/// The key that an algorithm of a protection makes of the secret; none when it is no such algorithm.
pub(super) fn key(
    algorithm: &AlgorithmIdentifierOwned,
    secret: &[u8],
) -> Option<Result<hmac::Key, MacError>> {
    match algorithm.oid {
        PASSWORD_BASED => Some(password_based(algorithm, secret)),
        PBMAC1 => Some(pbmac1(algorithm, secret)),
        _ => None,
    }
}

fn password_based(
    algorithm: &AlgorithmIdentifierOwned,
    secret: &[u8],
) -> Result<hmac::Key, MacError> {
    let parameters: PasswordBased = parameters(algorithm)?;
    let one_way = match parameters.one_way.oid.to_string().as_str() {
        "1.3.14.3.2.26" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
        "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
        _ => return Err(MacError::Unknown(parameters.one_way.oid)),
    };
    let iterations = iterations(parameters.iterations)?;
    let mac = function(&parameters.mac)?;
    let first = Zeroizing::new([secret, parameters.salt.as_bytes()].concat());
    let mut key = digest::digest(one_way, &first);
    for _ in 1..iterations.get() {
        key = digest::digest(one_way, key.as_ref());
    }
    Ok(hmac::Key::new(mac, key.as_ref()))
}

fn pbmac1(algorithm: &AlgorithmIdentifierOwned, secret: &[u8]) -> Result<hmac::Key, MacError> {
    let outer: Pbmac1 = parameters(algorithm)?;
    if outer.derivation.oid != PBKDF2 {
        return Err(MacError::Unknown(outer.derivation.oid));
    }
    let mac = function(&outer.mac)?;
    let inner: Pbkdf2 = parameters(&outer.derivation)?;
    let iterations = iterations(inner.iterations)?;
    let derive = match inner.function.as_ref().map_or(HMAC_SHA1, |given| given.oid) {
        HMAC_SHA1 => pbkdf2::PBKDF2_HMAC_SHA1,
        HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        other => match other.to_string().as_str() {
            "1.2.840.113549.2.10" => pbkdf2::PBKDF2_HMAC_SHA384,
            "1.2.840.113549.2.11" => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(MacError::Unknown(other)),
        },
    };
    let length = inner.length.map_or(KEY, usize::from);
    if !(16..=128).contains(&length) {
        return Err(MacError::Length(inner.length.unwrap_or_default()));
    }
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(derive, iterations, inner.salt.as_bytes(), secret, &mut key);
    Ok(hmac::Key::new(mac, &key))
}

fn function(algorithm: &AlgorithmIdentifierOwned) -> Result<hmac::Algorithm, MacError> {
    match algorithm.oid.to_string().as_str() {
        // The second is that of RFC 4210.
        "1.2.840.113549.2.7" | "1.3.6.1.5.5.8.1.2" => Ok(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "1.2.840.113549.2.9" => Ok(hmac::HMAC_SHA256),
        "1.2.840.113549.2.10" => Ok(hmac::HMAC_SHA384),
        "1.2.840.113549.2.11" => Ok(hmac::HMAC_SHA512),
        _ => Err(MacError::Unknown(algorithm.oid)),
    }
}

fn iterations(given: u32) -> Result<NonZeroU32, MacError> {
    let bounded = NonZeroU32::new(given).filter(|count| count.get() <= MOST_ITERATIONS);
    bounded.ok_or(MacError::Iterations(given))
}

fn plain(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: None,
    }
}

fn with(
    oid: ObjectIdentifier,
    parameters: &impl Encode,
) -> Result<AlgorithmIdentifierOwned, MacError> {
    let parameters: Any = der::Decode::from_der(&parameters.to_der()?)?;
    Ok(AlgorithmIdentifierOwned {
        oid,
        parameters: Some(parameters),
    })
}

fn parameters<T>(algorithm: &AlgorithmIdentifierOwned) -> Result<T, MacError>
where
    T: for<'a> der::DecodeValue<'a, Error = der::Error> + der::FixedTag,
{
    let parameters = algorithm.parameters.as_ref();
    let parameters = parameters.ok_or(MacError::Unknown(algorithm.oid))?;
    Ok(parameters.decode_as::<T>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What asks for too much work, or for what is not known, is not computed.
    #[test]
    fn a_key_is_made_within_bounds() {
        for kind in [MacKind::PasswordBased, MacKind::Pbmac1] {
            let algorithm = kind.algorithm().unwrap();
            let made = |secret| key(&algorithm, secret).unwrap().unwrap();
            let tag = hmac::sign(&made(b"one"), b"message");
            hmac::verify(&made(b"one"), b"message", tag.as_ref()).unwrap();
            assert!(hmac::verify(&made(b"two"), b"message", tag.as_ref()).is_err());
        }
        let based = |iterations, one_way| {
            let parameters = PasswordBased {
                salt: OctetString::new(*b"salt").unwrap(),
                one_way: plain(one_way),
                iterations,
                mac: plain(HMAC_SHA256),
            };
            let algorithm = with(PASSWORD_BASED, &parameters).unwrap();
            key(&algorithm, b"secret").unwrap().map(|_| ())
        };
        assert!(based(1, SHA256).is_ok());
        assert!(matches!(based(0, SHA256), Err(MacError::Iterations(0))));
        let most = MOST_ITERATIONS + 1;
        assert!(matches!(based(most, SHA256), Err(MacError::Iterations(_))));
        let unknown = based(1, HMAC_SHA1);
        assert!(matches!(unknown, Err(MacError::Unknown(HMAC_SHA1))));
        assert!(key(&plain(SHA256), b"secret").is_none());
    }
}
