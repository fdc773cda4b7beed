//! How an operator names a key that is in a token already.

use std::fmt;
use std::str::FromStr;

use super::keys::KeyReport;
use super::token_info::TokenInfo;
use super::uri::{Pkcs11Uri, UriClass, UriError};

/// A PKCS#11 URI, a CKA_ID in hexadecimal, or a CKA_LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    text: String,
    uri: Option<Pkcs11Uri>,
}

/// Why a text names no private key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyNameError {
    #[error("it is empty")]
    Empty,
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(
        "`{0}` is not an attribute that is known here, so that the URI names nothing (RFC 7512): leave it out"
    )]
    Unrecognized(String),
    #[error("it names an object that is no private key: use type=private")]
    NotPrivate,
    #[error("it has a pin-source: the PIN's file belongs to the token, in [hsm.tokens.NAME]")]
    PinSource,
}

impl KeyName {
    /// Whether it names this key, in this token.
    pub(super) fn matches(&self, token: &TokenInfo, key: &KeyReport) -> bool {
        match &self.uri {
            Some(uri) => uri.matches_token(token) && uri.matches_private_key(&key.id, &key.label),
            None => self.text == key.label || is_hex_of(&self.text, &key.id),
        }
    }

    /// Whether a key with this name may be in this token.
    pub(super) fn may_be_in(&self, token: &TokenInfo) -> bool {
        let uri = self.uri.as_ref();
        uri.is_none_or(|uri| uri.matches_token(token))
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        if text.is_empty() {
            return Err(KeyNameError::Empty);
        }
        let uri = match Pkcs11Uri::has_scheme(text) {
            true => Some(text.parse::<Pkcs11Uri>()?),
            false => None,
        };
        if let Some(uri) = &uri {
            if let Some(unknown) = uri.unrecognized().first() {
                return Err(KeyNameError::Unrecognized(unknown.clone()));
            }
            if uri.class().is_some_and(|class| class != UriClass::Private) {
                return Err(KeyNameError::NotPrivate);
            }
            if uri.pin_source().is_some() {
                return Err(KeyNameError::PinSource);
            }
        }
        Ok(Self {
            text: text.to_owned(),
            uri,
        })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// In either case, with or without `0x` and the colons that tools print.
fn is_hex_of(text: &str, id: &[u8]) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    !id.is_empty() && digits.eq_ignore_ascii_case(&crate::digest::hex(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::attestation::Attestation;
    use super::*;

    fn key(id: &[u8], label: &str) -> KeyReport {
        KeyReport {
            label: label.into(),
            id: id.into(),
            public_key: Err("not read".into()),
            attestation: Attestation::default(),
        }
    }

    #[test]
    fn a_key_by_its_uri_its_id_or_its_label() {
        let token = TokenInfo {
            label: "mesh".into(),
            ..TokenInfo::default()
        };
        for (name, id, label, expected) in [
            ("mesh-issuing", &[1][..], "mesh-issuing", true),
            ("Mesh-issuing", &[1], "mesh-issuing", false),
            ("0a1b", &[0x0a, 0x1b], "", true),
            ("0A:1B", &[0x0a, 0x1b], "", true),
            ("0x0a1b", &[0x0a, 0x1b], "", true),
            ("a1b", &[0x0a, 0x1b], "", false),
            ("0a1b", &[9], "0a1b", true),
            ("pkcs11:object=k", &[9], "k", true),
            ("pkcs11:token=mesh;id=%09;type=private", &[9], "k", true),
            ("pkcs11:token=other;id=%09", &[9], "k", false),
            ("pkcs11:object=k;id=%08", &[9], "k", false),
        ] {
            let parsed: KeyName = name.parse().unwrap();
            assert_eq!(parsed.matches(&token, &key(id, label)), expected, "{name}");
        }
    }

    #[test]
    fn what_names_no_private_key_is_refused() {
        for (text, says) in [
            ("", "empty"),
            ("pkcs11:object=a;type=public", "type=private"),
            ("pkcs11:object=a;x-vendor=1", "x-vendor"),
            ("pkcs11:object=a?pin-value=1234", "pin-value"),
            ("pkcs11:object=a?pin-source=/run/pin", "[hsm.tokens.NAME]"),
            ("pkcs11:object=a b", "%20"),
        ] {
            let error = text.parse::<KeyName>().unwrap_err().to_string();
            assert!(
                error.contains(says) && !error.contains("1234"),
                "{text}: {error}"
            );
        }
    }
}
