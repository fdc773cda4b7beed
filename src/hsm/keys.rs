//! Generates, finds and lists keys, and reads what the token vouches for.

use std::sync::atomic::Ordering;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::HsmError;
use super::fault::Fault;
use super::mechanism;
use super::signing_key::{SigningKey, TEST_MESSAGE};
use super::token_inner::TokenInner;
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey};

/// The location of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// As `[hsm.tokens.NAME]` calls it.
    pub token: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// CKA_LABEL.
    pub label: String,
}

/// What the token reports of a private key. `None`: it does not report the attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// CKA_LOCAL: generated in the token.
    pub local: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE: its value was never readable.
    pub always_sensitive: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE: it could never leave the token, not even wrapped.
    pub never_extractable: Option<bool>,
    /// CKA_SENSITIVE.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE.
    pub extractable: Option<bool>,
}

impl Attestation {
    /// The names of the attributes that the token does not vouch for: one that it does not report
    /// counts as false.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.local, "CKA_LOCAL"),
            (self.always_sensitive, "CKA_ALWAYS_SENSITIVE"),
            (self.never_extractable, "CKA_NEVER_EXTRACTABLE"),
        ]
        .into_iter()
        .filter(|(reported, _)| *reported != Some(true))
        .map(|(_, name)| name)
        .collect()
    }
}

/// A private key in a token.
#[derive(Clone, Debug)]
pub struct KeyReport {
    /// CKA_LABEL; bytes that are not UTF-8 are replaced.
    pub label: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// Or why it cannot be read.
    pub public_key: Result<PublicKey, String>,
    pub attestation: Attestation,
}

impl KeyReport {
    /// `None` when the public key cannot be read.
    pub fn kind(&self) -> Option<KeyKind> {
        self.public_key.as_ref().ok().map(PublicKey::kind)
    }
}

/// Generates a key pair: sensitive, not extractable, for signing only.
pub(super) fn generate(
    inner: &TokenInner,
    session: &Session,
    kind: KeyKind,
    label: &str,
    id: &[u8],
) -> Result<PublicKey, HsmError> {
    let call = |fault| inner.call_error(fault);
    let (mechanism, kind_attributes) =
        mechanism::generation(kind).ok_or(HsmError::UnsupportedKey { kind })?;
    let existing = session
        .find_objects(&[Attribute::Id(id.to_vec())])
        .map_err(|error| call(error.into()))?;
    if !existing.is_empty() {
        return Err(HsmError::KeyExists {
            token: inner.name.clone(),
            id: hex(id),
        });
    }
    let common = [
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ];
    let mut public = common.to_vec();
    public.extend([Attribute::Private(false), Attribute::Verify(true)]);
    public.extend(kind_attributes);
    let mut private = common.to_vec();
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        // Tokens allow these by default.
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]);
    if matches!(kind, KeyKind::Rsa { .. }) {
        private.push(Attribute::SignRecover(false));
    }
    let (_, generated) = session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|error| call(error.into()))?;
    let report = report(session, generated).map_err(call)?;
    let missing = report.attestation.missing();
    if !missing.is_empty() {
        tracing::warn!(
            token = inner.name,
            key = hex(id),
            missing = missing.join(", "),
            "the token does not vouch for the key that it generated"
        );
    }
    report.public_key.map_err(|reason| HsmError::NoPublicKey {
        token: inner.name.clone(),
        id: hex(id),
        reason,
    })
}

/// All private keys. The class is always part of the search: without it the token also returns
/// objects that are no keys (Kryoptic: more than a hundred mechanisms).
pub(super) fn list(session: &Session) -> Result<Vec<KeyReport>, Fault> {
    let keys = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    keys.into_iter().map(|key| report(session, key)).collect()
}

/// The private key with this CKA_ID.
pub(super) fn find(session: &Session, id: &[u8]) -> Result<ObjectHandle, Fault> {
    let found = find_all(session, id)?;
    match found.as_slice() {
        [key] => Ok(*key),
        // Also after a lost login: the token hides private keys and reports no error.
        [] => Err(Fault::other(
            "C_FindObjects",
            format!("no private key with CKA_ID {}", hex(id)),
        )),
        several => Err(Fault::other(
            "C_FindObjects",
            format!("{} private keys with CKA_ID {}", several.len(), hex(id)),
        )),
    }
}

/// The private key with this CKA_ID and its attributes.
pub(super) fn inspect(
    inner: &TokenInner,
    session: &Session,
    id: &[u8],
) -> Result<KeyReport, HsmError> {
    let call = |fault| inner.call_error(fault);
    let found = find_all(session, id).map_err(call)?;
    match found.as_slice() {
        [key] => report(session, *key).map_err(call),
        [] => Err(HsmError::NoSuchKey {
            token: inner.name.clone(),
            id: hex(id),
        }),
        several => Err(HsmError::AmbiguousKey {
            token: inner.name.clone(),
            id: hex(id),
            count: several.len(),
        }),
    }
}

/// Makes a test signature and verifies it in software.
pub(super) fn self_test(
    inner: &TokenInner,
    session: &Session,
    key: &SigningKey,
) -> Result<(), Fault> {
    let raw = session.sign(
        &mechanism::signing(key.public.kind()),
        find(session, &key.id)?,
        &mechanism::input(key.algorithm, TEST_MESSAGE)?,
    )?;
    inner.test_signatures.fetch_add(1, Ordering::Relaxed);
    key.verify_raw_test_signature(raw)
        .map_err(|reason| Fault::other("C_Sign", reason))
}

fn find_all(session: &Session, id: &[u8]) -> Result<Vec<ObjectHandle>, Fault> {
    Ok(session.find_objects(&[
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Id(id.to_vec()),
    ])?)
}

fn report(session: &Session, key: ObjectHandle) -> Result<KeyReport, Fault> {
    let flag = |kind| {
        Ok::<_, Fault>(
            attribute(session, key, kind)?.and_then(|attribute| match attribute {
                Attribute::Local(yes)
                | Attribute::AlwaysSensitive(yes)
                | Attribute::NeverExtractable(yes)
                | Attribute::Sensitive(yes)
                | Attribute::Extractable(yes) => Some(yes),
                _ => None,
            }),
        )
    };
    let id = bytes(session, key, AttributeType::Id)?.unwrap_or_default();
    let label = bytes(session, key, AttributeType::Label)?.unwrap_or_default();
    Ok(KeyReport {
        label: String::from_utf8_lossy(&label).into_owned(),
        public_key: public_key(session, key, &id)?,
        id,
        attestation: Attestation {
            local: flag(AttributeType::Local)?,
            always_sensitive: flag(AttributeType::AlwaysSensitive)?,
            never_extractable: flag(AttributeType::NeverExtractable)?,
            sensitive: flag(AttributeType::Sensitive)?,
            extractable: flag(AttributeType::Extractable)?,
        },
    })
}

/// From the public key object with the same CKA_ID, or from the attributes of an RSA private key.
fn public_key(
    session: &Session,
    private: ObjectHandle,
    id: &[u8],
) -> Result<Result<PublicKey, String>, Fault> {
    let public = session.find_objects(&[
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Id(id.to_vec()),
    ])?;
    if public.len() > 1 {
        return Ok(Err(format!(
            "{} public keys have the same CKA_ID",
            public.len()
        )));
    }
    for object in public.into_iter().chain([private]) {
        let read = |kind| bytes(session, object, kind);
        let key = if let (Some(params), Some(point)) = (
            read(AttributeType::EcParams)?,
            read(AttributeType::EcPoint)?,
        ) {
            mechanism::ec_public_key(&params, &point)
        } else if let (Some(modulus), Some(exponent)) = (
            read(AttributeType::Modulus)?,
            read(AttributeType::PublicExponent)?,
        ) {
            mechanism::rsa_public_key(&modulus, &exponent)
        } else {
            continue;
        };
        return Ok(key);
    }
    Ok(Err(
        "no public key object has the same CKA_ID; import the public key next to it".into(),
    ))
}

fn bytes(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<Vec<u8>>, Fault> {
    Ok(
        attribute(session, object, kind)?.and_then(|attribute| match attribute {
            Attribute::Id(value)
            | Attribute::Label(value)
            | Attribute::EcParams(value)
            | Attribute::EcPoint(value)
            | Attribute::Modulus(value)
            | Attribute::PublicExponent(value) => Some(value).filter(|value| !value.is_empty()),
            _ => None,
        }),
    )
}

/// Reads one attribute at a time: a token that does not know one of several may return none.
fn attribute(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<Attribute>, Fault> {
    use cryptoki::error::{Error, RvError};
    match session.get_attributes(object, &[kind]) {
        Ok(attributes) => Ok(attributes.into_iter().next()),
        Err(Error::Pkcs11(RvError::AttributeTypeInvalid | RvError::AttributeSensitive, _)) => {
            Ok(None)
        }
        // A value that cannot be converted counts as not reported.
        Err(error @ Error::Pkcs11(..)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_is_not_reported_counts_as_false() {
        let yes = Some(true);
        let good = Attestation {
            local: yes,
            always_sensitive: yes,
            never_extractable: yes,
            ..Default::default()
        };
        assert!(good.missing().is_empty());
        assert_eq!(
            Attestation {
                local: None,
                ..good
            }
            .missing(),
            ["CKA_LOCAL"]
        );
        assert_eq!(
            Attestation {
                always_sensitive: Some(false),
                ..good
            }
            .missing(),
            ["CKA_ALWAYS_SENSITIVE"]
        );
        assert_eq!(Attestation::default().missing().len(), 3);
    }
}
