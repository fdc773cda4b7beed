//! Kinds of keys.

use std::fmt;
use std::str::FromStr;

use crate::x509::algorithm::SignatureAlgorithm;
use crate::x509::name::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Rsa {
        /// The size of the modulus, 2048 to 4096.
        bits: u16,
    },
    Ed25519,
}

impl KeyKind {
    /// The name in the configuration, such as `ecdsa-p256` or `rsa-2048`.
    pub fn slug(self) -> String {
        match self {
            Self::EcdsaP256 => "ecdsa-p256".into(),
            Self::EcdsaP384 => "ecdsa-p384".into(),
            Self::EcdsaP521 => "ecdsa-p521".into(),
            Self::Rsa { bits } => format!("rsa-{bits}"),
            Self::Ed25519 => "ed25519".into(),
        }
    }

    /// The algorithm that a CA key in a token signs with; `None` if CA keys cannot be of this kind.
    pub const fn ca_algorithm(self) -> Option<SignatureAlgorithm> {
        match self {
            Self::EcdsaP256 => Some(SignatureAlgorithm::EcdsaSha256),
            Self::EcdsaP384 => Some(SignatureAlgorithm::EcdsaSha384),
            Self::Rsa { .. } => Some(SignatureAlgorithm::RsaSha256),
            Self::EcdsaP521 | Self::Ed25519 => None,
        }
    }

    /// A kind that CA keys can have, by its name.
    ///
    /// # Errors
    /// Another name, with those that can be written.
    pub fn for_ca(name: &str) -> Result<Self, NoCaKeyKind> {
        let kind = name.parse::<Self>().ok();
        kind.filter(|kind| kind.ca_algorithm().is_some())
            .ok_or_else(|| NoCaKeyKind(printable(name)))
    }

    /// The usual algorithm for keys of this kind.
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
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, UnknownKeyKind> {
        Ok(match text {
            "ecdsa-p256" => Self::EcdsaP256,
            "ecdsa-p384" => Self::EcdsaP384,
            "ecdsa-p521" => Self::EcdsaP521,
            "rsa-2048" => Self::Rsa { bits: 2048 },
            "rsa-3072" => Self::Rsa { bits: 3072 },
            "rsa-4096" => Self::Rsa { bits: 4096 },
            "ed25519" => Self::Ed25519,
            other => {
                return Err(UnknownKeyKind(printable(other)));
            }
        })
    }
}

/// A kind of key that CA keys cannot have, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a CA's key cannot be of kind \"{0}\"; write ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096"
)]
pub struct NoCaKeyKind(pub String);

/// A kind of key that does not exist, escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kind of key is called \"{0}\"; write ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048, \
     rsa-3072, rsa-4096 or ed25519"
)]
pub struct UnknownKeyKind(pub String);
