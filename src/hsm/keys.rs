//! Keys in a token: made, found, listed, and what the token vouches for.

use std::sync::atomic::Ordering;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::HsmError;
use super::fault::Fault;
use super::mechanism;
use super::shared::Shared;
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey, SignatureAlgorithm};

/// What test signatures are made over: no certificate, no request, nothing anybody would accept.
pub const TEST_MESSAGE: &[u8] = b"rootbridge HSM self-test: this is not a certificate";

/// Where a key lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// The token's name in the config.
    pub token: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// CKA_LABEL.
    pub label: String,
}

/// A private key that is in use, as workers need it.
#[derive(Debug)]
pub(super) struct SigningKey {
    pub(super) id: Vec<u8>,
    pub(super) public: PublicKey,
    pub(super) algorithm: SignatureAlgorithm,
}

/// What the token says of a private key. `None`: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// CKA_LOCAL: made inside the token.
    pub local: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE: never readable in the clear.
    pub always_sensitive: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE: never could leave, not even wrapped.
    pub never_extractable: Option<bool>,
    /// CKA_SENSITIVE, now.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE, now.
    pub extractable: Option<bool>,
}

impl Attestation {
    /// The attributes that are not vouched for, by their names; empty when all three are. An answer
    /// that is missing counts as no.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.local, "CKA_LOCAL"),
            (self.always_sensitive, "CKA_ALWAYS_SENSITIVE"),
            (self.never_extractable, "CKA_NEVER_EXTRACTABLE"),
        ]
        .into_iter()
        .filter(|(answer, _)| *answer != Some(true))
        .map(|(_, name)| name)
        .collect()
    }
}

/// A private key in a token.
#[derive(Clone, Debug)]
pub struct KeyReport {
    /// CKA_LABEL; what is not UTF-8 in it is replaced.
    pub label: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// The public half, or why it cannot be had.
    pub public_key: Result<PublicKey, String>,
    /// What the token vouches for.
    pub attestation: Attestation,
}

impl KeyReport {
    /// The kind of key, when its public half is known.
    pub fn kind(&self) -> Option<KeyKind> {
        self.public_key.as_ref().ok().map(PublicKey::kind)
    }
}

/// Makes a key pair that never leaves: sensitive, not extractable, and good for signing only.
pub(super) fn generate(
    shared: &Shared,
    session: &Session,
    kind: KeyKind,
    label: &str,
    id: &[u8],
) -> Result<PublicKey, HsmError> {
    let call = |fault| HsmError::Call {
        token: shared.name.clone(),
        fault,
    };
    let (mechanism, kind_attributes) =
        mechanism::generation(kind).ok_or(HsmError::UnsupportedKey { kind })?;
    let taken = session
        .find_objects(&[Attribute::Id(id.to_vec())])
        .map_err(|error| call(error.into()))?;
    if !taken.is_empty() {
        return Err(HsmError::KeyExists {
            token: shared.name.clone(),
            id: hex(id),
        });
    }
    let named = [
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ];
    let mut public = named.to_vec();
    public.extend([Attribute::Private(false), Attribute::Verify(true)]);
    public.extend(kind_attributes);
    let mut private = named.to_vec();
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        // Tokens allow these unless they are told not to.
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]);
    if matches!(kind, KeyKind::Rsa { .. }) {
        private.push(Attribute::SignRecover(false));
    }
    let (_, made) = session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|error| call(error.into()))?;
    let report = report(session, made).map_err(call)?;
    let unvouched = report.attestation.missing();
    if !unvouched.is_empty() {
        tracing::warn!(
            token = shared.name,
            key = hex(id),
            missing = unvouched.join(", "),
            "the token does not vouch for the key it just made"
        );
    }
    report.public_key.map_err(|reason| HsmError::NoPublicKey {
        token: shared.name.clone(),
        id: hex(id),
        reason,
    })
}

/// All private keys. The class is always part of the search: an empty one also returns what is no
/// key at all (Kryoptic: more than a hundred mechanisms).
pub(super) fn list(session: &Session) -> Result<Vec<KeyReport>, Fault> {
    let keys = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    keys.into_iter().map(|key| report(session, key)).collect()
}

/// The private key with this CKA_ID.
pub(super) fn find(session: &Session, id: &[u8]) -> Result<ObjectHandle, Fault> {
    let found = find_all(session, id)?;
    match found.as_slice() {
        [key] => Ok(*key),
        // A lost login looks like this too: private keys are not seen, and no error says so.
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

/// The private key with this CKA_ID and what is known of it.
pub(super) fn inspect(
    shared: &Shared,
    session: &Session,
    id: &[u8],
) -> Result<KeyReport, HsmError> {
    let call = |fault| HsmError::Call {
        token: shared.name.clone(),
        fault,
    };
    let found = find_all(session, id).map_err(call)?;
    match found.as_slice() {
        [key] => report(session, *key).map_err(call),
        [] => Err(HsmError::NoSuchKey {
            token: shared.name.clone(),
            id: hex(id),
        }),
        several => Err(HsmError::AmbiguousKey {
            token: shared.name.clone(),
            id: hex(id),
            count: several.len(),
        }),
    }
}

/// Signs the test message, and verifies it in software.
pub(super) fn test(
    shared: &Shared,
    session: &Session,
    handle: ObjectHandle,
    key: &SigningKey,
) -> Result<(), Fault> {
    let kind = key.public.kind();
    let raw = session.sign(
        &mechanism::signing(kind),
        handle,
        &mechanism::input(key.algorithm, TEST_MESSAGE)?,
    )?;
    shared.test_signatures.fetch_add(1, Ordering::Relaxed);
    let signature =
        mechanism::signature(kind, raw).map_err(|reason| Fault::other("C_Sign", reason))?;
    verify_test(key, &signature).map_err(|reason| Fault::other("C_Sign", reason))
}

/// Verifies a test signature in software.
pub(super) fn verify_test(key: &SigningKey, signature: &[u8]) -> Result<(), String> {
    key.public
        .verify(key.algorithm, TEST_MESSAGE, signature)
        .map_err(|error| error.to_string())
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
        public_key: public_half(session, key, &id)?,
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

/// From the public key object with the same CKA_ID; an RSA private key may name its own.
fn public_half(
    session: &Session,
    private: ObjectHandle,
    id: &[u8],
) -> Result<Result<PublicKey, String>, Fault> {
    let twins = session.find_objects(&[
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Id(id.to_vec()),
    ])?;
    if twins.len() > 1 {
        return Ok(Err(format!(
            "{} public keys have the same CKA_ID",
            twins.len()
        )));
    }
    for object in twins.into_iter().chain([private]) {
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

/// One attribute, asked for alone: a token that does not know one of several may answer none.
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
        // What cannot be converted was not an answer.
        Err(Error::Pkcs11(code, function)) => Err(Error::Pkcs11(code, function).into()),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_answer_counts_as_no() {
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
