//! What may be wrong with a key, or with a signature under it.

use super::kind::KeyKind;
use crate::x509::algorithm::SignatureAlgorithm;
use crate::x509::read::Malformed;

/// Why a public key is refused, or a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not DER.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A kind of key that is not certified.
    #[error("public key: {what} is not supported; use ECDSA P-256, P-384 or P-521, RSA or Ed25519")]
    Unsupported {
        /// The kind, as far as it has a name.
        what: String,
    },
    /// A modulus that is too short or too long.
    #[error("public key: RSA with {bits} bits; use 2048 to 4096")]
    RsaSize {
        /// Its size.
        bits: usize,
    },
    /// An even modulus, which no RSA key has.
    #[error("public key: the RSA modulus is even, so it is not the product of two primes")]
    RsaModulusEven,
    /// A public exponent that is even, below 65537 or past 32 bits.
    #[error(
        "public key: RSA exponent {exponent}; use 65537 (odd, at least 65537, at most 32 bits)"
    )]
    RsaExponent {
        /// The exponent.
        exponent: String,
    },
    /// A point in compressed form.
    #[error("public key: the EC point is compressed; send it uncompressed (RFC 5480 §2.2)")]
    CompressedPoint,
    /// A point of a wrong form or length.
    #[error("public key: the EC point does not have the form and length of its curve's")]
    Point,
    /// A point off its curve, or a key that aws-lc refuses.
    #[error("public key: not a valid {kind} key (a point must lie on its curve)")]
    Invalid {
        /// Its kind.
        kind: KeyKind,
    },
    /// An algorithm for another kind of key.
    #[error("a {kind} key cannot sign with {algorithm}")]
    AlgorithmMismatch {
        /// The key's kind.
        kind: KeyKind,
        /// The algorithm named.
        algorithm: SignatureAlgorithm,
    },
    /// The signature does not verify.
    #[error("the {algorithm} signature does not verify under the {kind} key")]
    BadSignature {
        /// The key's kind.
        kind: KeyKind,
        /// The algorithm named.
        algorithm: SignatureAlgorithm,
    },
}
