use super::kind::KeyKind;
use crate::x509::algorithm::SignatureAlgorithm;
use crate::x509::read::Malformed;

/// Why a public key or a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("public key: {kind} is not supported; use ECDSA P-256, P-384 or P-521, RSA or Ed25519")]
    Unsupported { kind: String },
    #[error("public key: RSA with {bits} bits; use 2048 to {max}")]
    RsaSize { bits: usize, max: u16 },
    #[error("public key: the RSA modulus is even, so it is not the product of two primes")]
    RsaModulusEven,
    #[error("public key: RSA exponent {exponent}; use 65537 (odd, at least {min}, at most {max})")]
    RsaExponent {
        exponent: String,
        min: u64,
        max: u64,
    },
    #[error("public key: the EC point is compressed; send it uncompressed (RFC 5480 §2.2)")]
    CompressedPoint,
    #[error("public key: the EC point does not have the form and length of its curve")]
    InvalidPoint,
    /// Such as a point that is not on its curve.
    #[error("public key: not a valid {kind} key (a point must lie on its curve)")]
    Invalid { kind: KeyKind },
    #[error("a {kind} key cannot sign with {algorithm}")]
    AlgorithmMismatch {
        kind: KeyKind,
        algorithm: SignatureAlgorithm,
    },
    #[error("the {algorithm} signature does not verify under the {kind} key")]
    BadSignature {
        kind: KeyKind,
        algorithm: SignatureAlgorithm,
    },
}
