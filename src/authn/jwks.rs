//! JSON Web Key Sets (RFC 7517).

use serde::Deserialize;

use super::key::{Algorithm, SignatureError, VerifyingKey};

/// The largest set that is read, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// The most members of a set: each usable RSA key is prepared for six algorithms.
const MAX_KEYS: usize = 256;

/// The usable keys of a set; at least one.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("not a JSON Web Key Set: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    #[error("it has no key that can verify a token{}", .first.as_deref().map(|why| format!(" ({why})")).unwrap_or_default())]
    Empty { first: Option<String> },
}

#[derive(Deserialize)]
struct Raw {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a set and prepares its keys. Members that cannot verify tokens are skipped (RFC 7517
    /// §5); a set without any other is an error.
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

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Verifies a signature with the key that `kid` names, and returns that key's own id; `None` when
    /// the set has no such key.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        with: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<Result<Option<&str>, SignatureError>> {
        let alone = self.keys.len() == 1;
        if kid.is_none() && !alone {
            return Some(Err(SignatureError::NoKeyId));
        }
        let mut refused = None;
        for key in &self.keys {
            // An id may be missing, in the token or the key, only if there is a single key.
            let fits = match (kid, key.id()) {
                (Some(wanted), Some(id)) => wanted == id,
                (None, _) | (_, None) => alone,
            };
            if !fits {
                continue;
            }
            // A rotation may leave several keys with one id. All are the issuer's, so any of them
            // may have signed.
            match key.verify(with, message, signature) {
                Ok(()) => return Some(Ok(key.id())),
                Err(why) => refused = refused.max(Some(why)),
            }
        }
        refused.map(Err)
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

    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;
    use serde_json::json;

    use super::*;

    /// From RFC 8037, appendix A.2.
    const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519(kid: &str) -> serde_json::Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": ED25519_X })
    }

    #[test]
    fn verifies_the_example_of_rfc_8037() {
        let set = KeySet::parse(json!({ "keys": [ed25519("a")] }).to_string().as_bytes()).unwrap();
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let signature =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature)
                .unwrap();
        let verify =
            |kid, message: &str| set.verify(kid, Algorithm::EdDsa, message.as_bytes(), &signature);
        assert_eq!(verify(Some("a"), signed), Some(Ok(Some("a"))));
        assert_eq!(verify(None, signed), Some(Ok(Some("a"))));
        assert_eq!(verify(Some("b"), signed), None);
        assert_eq!(
            verify(Some("a"), "other"),
            Some(Err(SignatureError::Signature))
        );
        assert_eq!(
            set.verify(Some("a"), Algorithm::Rs256, signed.as_bytes(), &signature),
            Some(Err(SignatureError::Algorithm))
        );
    }

    #[test]
    fn a_set_is_bounded_and_says_why_it_is_empty() {
        let many = |count: usize| {
            let keys: Vec<_> = (0..count)
                .map(|index| ed25519(&index.to_string()))
                .collect();
            KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
        };
        assert_eq!(many(MAX_KEYS).unwrap().len(), MAX_KEYS);
        assert!(matches!(many(MAX_KEYS + 1), Err(KeySetError::TooMany(_))));
        let why = KeySet::parse(br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#).unwrap_err();
        assert!(why.to_string().contains("key type"), "{why}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = KeySet::parse(&bytes);
        }

        #[test]
        fn any_members_are_a_set_or_an_error(
            kty in prop::sample::select(vec!["RSA", "EC", "OKP", "oct", ""]),
            crv in prop::sample::select(vec!["P-256", "P-384", "Ed25519", "X25519", ""]),
            n in "[A-Za-z0-9_=-]{0,600}", e in "[A-Za-z0-9_-]{0,12}",
            x in "[A-Za-z0-9_-]{0,66}", y in "[A-Za-z0-9_-]{0,66}",
        ) {
            let key = json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y });
            let _ = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes());
        }
    }
}
