//! The kinds of key that are certified.

use std::fmt;
use std::str::FromStr;

use super::error::KeyError;
use crate::x509::algorithm::SignatureAlgorithm;

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// NIST P-256.
    EcdsaP256,
    /// NIST P-384.
    EcdsaP384,
    /// NIST P-521.
    EcdsaP521,
    /// RSA.
    Rsa {
        /// The size of the modulus in bits, 2048 to 4096.
        bits: u16,
    },
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// The name that [`FromStr`] reads, such as `ecdsa-p256` or `rsa-2048`.
    pub fn slug(self) -> String {
        match self {
            Self::EcdsaP256 => "ecdsa-p256".into(),
            Self::EcdsaP384 => "ecdsa-p384".into(),
            Self::EcdsaP521 => "ecdsa-p521".into(),
            Self::Rsa { bits } => format!("rsa-{bits}"),
            Self::Ed25519 => "ed25519".into(),
        }
    }

    /// What a certificate for this kind of key is signed with when its holder signs for itself.
    pub(super) const fn default_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => SignatureAlgorithm::EcdsaSha256,
            Self::EcdsaP384 => SignatureAlgorithm::EcdsaSha384,
            Self::EcdsaP521 => SignatureAlgorithm::EcdsaSha512,
            Self::Rsa { .. } => SignatureAlgorithm::RsaSha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::EcdsaP384 => f.write_str("ECDSA P-384"),
            Self::EcdsaP521 => f.write_str("ECDSA P-521"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl FromStr for KeyKind {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(match text {
            "ecdsa-p256" => Self::EcdsaP256,
            "ecdsa-p384" => Self::EcdsaP384,
            "ecdsa-p521" => Self::EcdsaP521,
            "rsa-2048" => Self::Rsa { bits: 2048 },
            "rsa-3072" => Self::Rsa { bits: 3072 },
            "rsa-4096" => Self::Rsa { bits: 4096 },
            "ed25519" => Self::Ed25519,
            other => {
                return Err(KeyError::Name {
                    name: crate::x509::name::printable(other),
                });
            }
        })
    }
}
