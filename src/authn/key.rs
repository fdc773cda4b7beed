//! One public key of a JSON Web Key Set, prepared for verification when the set is loaded.
//!
//! This calls aws-lc-rs directly: jsonwebtoken 11 copies and parses the key for every token, which
//! makes an RSA verification slower by about a quarter.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The accepted algorithms (RFC 7518 §3.1, RFC 8037); not `none`, and no symmetric one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// From the name in a header or a key.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A key, prepared for each algorithm that it may be used with.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    id: Option<String>,
    prepared: Vec<(Algorithm, ParsedPublicKey)>,
}

/// Why a member of a key set cannot be used. A set may hold such members (RFC 7517 §5).
#[derive(Debug, thiserror::Error)]
pub(super) enum JwkError {
    #[error("not a JSON Web Key: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("its `use` or `key_ops` is not for verifying signatures")]
    Purpose,
    #[error("its key type or curve is not one that may sign tokens")]
    Type,
    #[error("its `alg` is not one that its key type may be used with")]
    Algorithm,
    #[error("its public key is incomplete, malformed, too small or not a point of its curve")]
    Material,
}

/// Why a token's signature is not accepted. A later variant is more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("its header names no key (kid), and the issuer has several")]
    NoKeyId,
    #[error("its header's algorithm is not one that the key is for")]
    Algorithm,
    #[error("its signature is wrong")]
    Signature,
}

impl VerifyingKey {
    pub(super) fn from_jwk(value: serde_json::Value) -> Result<Self, JwkError> {
        let jwk = Jwk::deserialize(value)?;
        let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return Err(JwkError::Purpose);
        }
        let only = match jwk.alg.as_deref() {
            None => None,
            Some(name) => Some(Algorithm::parse(name).ok_or(JwkError::Algorithm)?),
        };
        let prepared = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => jwk.rsa(only)?,
            ("EC", Some("P-256")) => {
                jwk.ec(32, Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED)?
            }
            ("EC", Some("P-384")) => {
                jwk.ec(48, Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED)?
            }
            ("OKP", Some("Ed25519")) => {
                let x = sized(jwk.x.as_deref(), 32)?;
                vec![(Algorithm::EdDsa, parsed(&signature::ED25519, &x)?)]
            }
            _ => return Err(JwkError::Type),
        };
        let prepared: Vec<_> = prepared
            .into_iter()
            .filter(|(each, _)| only.is_none_or(|only| only == *each))
            .collect();
        if prepared.is_empty() {
            return Err(JwkError::Algorithm);
        }
        Ok(Self {
            id: jwk.kid,
            prepared,
        })
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn verify(
        &self,
        with: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let (_, key) = self
            .prepared
            .iter()
            .find(|(each, _)| *each == with)
            .ok_or(SignatureError::Algorithm)?;
        key.verify_sig(message, signature)
            .map_err(|_| SignatureError::Signature)
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The algorithms of an RSA key without `alg`.
const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
];

impl Jwk {
    fn rsa(&self, only: Option<Algorithm>) -> Result<Vec<(Algorithm, ParsedPublicKey)>, JwkError> {
        let n: Vec<u8> = decoded(self.n.as_deref())?
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        let e = decoded(self.e.as_deref())?;
        // aws-lc-rs checks the size at each verification. Report a key that can never verify here
        // instead.
        let spare = n.first().map_or(0, |top| top.leading_zeros() as usize);
        if !(2048..=8192).contains(&(n.len() * 8 - spare)) {
            return Err(JwkError::Material);
        }
        let components = PublicKeyComponents { n, e };
        RSA.into_iter()
            .filter(|(each, _)| only.is_none_or(|only| only == *each))
            .map(|(each, parameters)| {
                components
                    .to_parsed_public_key(parameters)
                    .map(|key| (each, key))
                    .map_err(|_| JwkError::Material)
            })
            .collect()
    }

    fn ec(
        &self,
        size: usize,
        algorithm: Algorithm,
        verification: &'static dyn VerificationAlgorithm,
    ) -> Result<Vec<(Algorithm, ParsedPublicKey)>, JwkError> {
        let mut point = vec![0x04];
        point.extend(sized(self.x.as_deref(), size)?);
        point.extend(sized(self.y.as_deref(), size)?);
        Ok(vec![(algorithm, parsed(verification, &point)?)])
    }
}

fn parsed(
    with: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<ParsedPublicKey, JwkError> {
    ParsedPublicKey::new(with, key).map_err(|_| JwkError::Material)
}

fn decoded(text: Option<&str>) -> Result<Vec<u8>, JwkError> {
    URL_SAFE_NO_PAD
        .decode(text.ok_or(JwkError::Material)?)
        .map_err(|_| JwkError::Material)
}

/// A coordinate has exactly the length of its field (RFC 7518 §6.2.1.2).
fn sized(text: Option<&str>, size: usize) -> Result<Vec<u8>, JwkError> {
    decoded(text).and_then(|bytes| {
        if bytes.len() == size {
            Ok(bytes)
        } else {
            Err(JwkError::Material)
        }
    })
}
