//! A JSON Web Key Set (RFC 7517): the keys of one issuer of tokens.

use serde::Deserialize;

use super::key::{Algorithm, Refused, VerifyingKey};

/// The largest set that is read, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// The most members that a set may have: each usable RSA key is prepared for six algorithms.
const MAX_KEYS: usize = 256;

/// The usable keys of a set; at least one.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
}

/// Why a set is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("not a JSON Web Key Set: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it has {0} keys, and {MAX_KEYS} are the most")]
    TooMany(usize),
    #[error("it has no key that can verify a token{}", .first.as_deref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Empty { first: Option<String> },
}

#[derive(Deserialize)]
struct Raw {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a set and prepares its keys. Members that are not for verifying tokens are left
    /// out (RFC 7517 §5), the set without any other is refused.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let raw: Raw = serde_json::from_slice(json)?;
        if raw.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(raw.keys.len()));
        }
        let mut keys = Vec::with_capacity(raw.keys.len());
        let mut first = None;
        for each in raw.keys {
            match VerifyingKey::from_jwk(each) {
                Ok(key) => keys.push(key),
                Err(why) => first = first.or_else(|| Some(why.to_string())),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::Empty { first });
        }
        Ok(Self { keys })
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Checks a signature with the key that `kid` names; `None` when the set has no such key.
    /// The id that is returned is the key's own.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        with: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<Result<Option<&str>, Refused>> {
        let alone = self.keys.len() == 1;
        if kid.is_none() && !alone {
            return Some(Err(Refused::NoKeyId));
        }
        let mut refused = None;
        for key in &self.keys {
            // A missing id, the token's or the key's, is made up for only when there is no choice.
            let fits = match (kid, key.id()) {
                (Some(wanted), Some(id)) => wanted == id,
                (None, _) | (_, None) => alone,
            };
            if !fits {
                continue;
            }
            // Ids are doubled in a clumsy rotation; each such key is the issuer's, so each may
            // have signed.
            match key.verify(with, message, signature) {
                Ok(()) => return Some(Ok(key.id())),
                Err(why) => refused = refused.max(Some(why)),
            }
        }
        refused.map(Err)
    }
}
