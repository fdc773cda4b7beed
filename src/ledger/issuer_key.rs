//! An issuer's key: its id, and where copies of it are.

use std::fmt;
use std::str::FromStr;

use super::words::words;
use crate::digest::{hex, sha256};

/// Identifies an issuer by its key: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo, in
/// lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId(Box<str>);

impl IssuerId {
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(hex(sha256(spki_der).get(..16).unwrap_or_default()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for IssuerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 32 && text.chars().all(hex) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "{text:?} is no issuer id: 32 digits of lower-case hex"
            ))
        }
    }
}

/// What an issuer's key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Signs CA certificates; `serve` never opens its key.
    Root,
    /// Signs leaves.
    Issuing,
}
words!(Role, "role", { Root => "root", Issuing => "issuing" });

/// The location of a copy of an issuer's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocation {
    /// The token's name in the configuration.
    pub token: String,
    /// The token's serial number (CK_TOKEN_INFO).
    pub token_serial: String,
    pub key_id: Vec<u8>,
    pub label: String,
}

impl KeyLocation {
    /// Whether a token's CKA_ID is the recorded one. Some tokens keep two octets of it, which no other
    /// key begins with.
    pub fn names(&self, key_id: &[u8]) -> bool {
        !key_id.is_empty() && self.key_id.starts_with(key_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_issuers_id_is_32_lower_case_digits() {
        let id = IssuerId::of_spki(b"key");
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.as_str().parse::<IssuerId>(), Ok(id.clone()));
        assert_eq!(format!("{:>34}", id), format!("  {id}"));
        let text = id.to_string();
        let short = text.get(1..).unwrap();
        for wrong in [
            String::new(),
            short.to_owned(),
            format!("{text}0"),
            format!("{short}g"),
            format!("{short}A"),
            format!("{short}-"),
        ] {
            let error = wrong.parse::<IssuerId>().unwrap_err();
            assert!(error.contains("is no issuer id"), "{error}");
        }
    }
}
