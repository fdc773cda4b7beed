//! Finds and lists keys, and reads what the token vouches for.

use std::sync::atomic::Ordering;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::attestation::Attestation;
use super::attributes::{bytes, flag};
use super::error::HsmError;
use super::fault::Fault;
use super::mechanism;
use super::public_key;
use super::signing_key::{SigningKey, TEST_MESSAGE};
use super::token_inner::TokenInner;
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey};

/// How many octets of a CKA_ID some tokens keep.
pub(super) const KEPT_OCTETS: usize = 2;

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

/// A private key object, and what it is called.
pub(super) struct Private {
    pub(super) object: ObjectHandle,
    pub(super) id: Vec<u8>,
    label: Vec<u8>,
}

/// All private keys.
pub(super) fn list(inner: &TokenInner, session: &Session) -> Result<Vec<KeyReport>, Fault> {
    let keys = all_private(session)?;
    let report = |key| {
        let shown = public_of(inner, session, key, &keys)?;
        report(session, key, shown.key)
    };
    keys.iter().map(report).collect()
}

/// The private key that was generated with this CKA_ID, of which the token may have kept the first octets.
pub(super) fn generated(
    inner: &TokenInner,
    session: &Session,
    id: &[u8],
) -> Result<Option<KeyReport>, Fault> {
    for kept in [Some(id), id.get(..KEPT_OCTETS)].into_iter().flatten() {
        let keys = private_with_id(session, kept)?;
        if let Some(key) = keys.first() {
            let shown = public_of(inner, session, key, &keys)?;
            return report(session, key, shown.key).map(Some);
        }
    }
    Ok(None)
}

/// The object of a key that is open, in this session.
pub(super) fn find(
    inner: &TokenInner,
    session: &Session,
    key: &SigningKey,
) -> Result<ObjectHandle, Fault> {
    let found = locate(inner, session, &key.id, &key.public)?;
    // None also after a lost login: the token hides private keys and reports no error.
    let found = found.ok_or_else(|| {
        let reason = format!(
            "no private key with CKA_ID {} is the open one",
            hex(&key.id)
        );
        Fault::other("C_FindObjects", reason)
    })?;
    Ok(found.object)
}

/// The private key of `expected`.
pub(super) fn inspect(
    inner: &TokenInner,
    session: &Session,
    id: &[u8],
    expected: &PublicKey,
) -> Result<KeyReport, HsmError> {
    let call = |fault| inner.call_error(fault);
    if let Some(key) = locate(inner, session, id, expected).map_err(call)? {
        if key.id != id {
            tracing::warn!(
                token = inner.name,
                recorded = hex(id),
                found = hex(&key.id),
                "the key has another CKA_ID than the recorded one"
            );
        }
        return report(session, &key, Ok(expected.clone())).map_err(call);
    }
    let recorded = private_with_id(session, id).map_err(call)?;
    let (token, id) = (inner.name.clone(), hex(id));
    match recorded.as_slice() {
        [] => Err(HsmError::NoSuchKey { token, id }),
        [only] => match public_of(inner, session, only, &recorded)
            .map_err(call)?
            .key
        {
            Ok(_) => Err(HsmError::PublicKeyMismatch { token, id }),
            Err(reason) => Err(HsmError::NoPublicKey { token, id, reason }),
        },
        several => Err(HsmError::AmbiguousKey {
            token,
            id,
            count: several.len(),
        }),
    }
}

/// The private key of `expected`. Its public key identifies it; `id`, the recorded CKA_ID, only says
/// where to look first: others may have the same one, and administrators change them.
pub(super) fn locate(
    inner: &TokenInner,
    session: &Session,
    id: &[u8],
    expected: &PublicKey,
) -> Result<Option<Private>, Fault> {
    let recorded = private_with_id(session, id)?;
    if let Some(key) = with_public_key(inner, session, recorded, expected)? {
        return Ok(Some(key));
    }
    let mut all = all_private(session)?;
    for position in 0..all.len() {
        let Some(key) = all.get(position) else { break };
        let shown = public_of(inner, session, key, &all)?;
        if shown.key.as_ref() == Ok(expected) {
            return Ok(Some(all.swap_remove(position)));
        }
    }
    Ok(None)
}

/// Makes a test signature and verifies it in software.
pub(super) fn self_test(
    inner: &TokenInner,
    session: &Session,
    key: &SigningKey,
) -> Result<(), Fault> {
    let object = find(inner, session, key)?;
    let hashed = inner.hashed_in_token();
    let raw = mechanism::sign(session, object, key.algorithm, hashed, TEST_MESSAGE)?;
    inner.test_signatures.fetch_add(1, Ordering::Relaxed);
    key.verify_raw_test_signature(raw)
        .map_err(|reason| Fault::other("C_Sign", reason))
}

/// The one of `keys` whose public key is `expected`.
fn with_public_key(
    inner: &TokenInner,
    session: &Session,
    mut keys: Vec<Private>,
    expected: &PublicKey,
) -> Result<Option<Private>, Fault> {
    let mut unclear = Vec::new();
    for (position, key) in keys.iter().enumerate() {
        let shown = public_of(inner, session, key, &keys)?;
        if shown.key.as_ref() == Ok(expected) {
            return Ok(Some(keys.swap_remove(position)));
        }
        let other_kind = |public: &PublicKey| public.kind() != expected.kind();
        if !shown.certain && !shown.key.as_ref().is_ok_and(other_kind) {
            unclear.push(position);
        }
    }
    // The token shows no public key, or that of an object which only has the same CKA_ID.
    for position in unclear {
        let object = keys.get(position).map(|key| key.object);
        if let Some(object) = object
            && public_key::signs_for(inner, session, object, expected)?
        {
            return Ok(Some(keys.swap_remove(position)));
        }
    }
    Ok(None)
}

fn public_of(
    inner: &TokenInner,
    session: &Session,
    key: &Private,
    all: &[Private],
) -> Result<public_key::Shown, Fault> {
    let is_other = |other: &&Private| other.object != key.object && other.id == key.id;
    let shared_id = all.iter().any(|other| is_other(&other));
    let names = (key.id.as_slice(), key.label.as_slice());
    public_key::of_private(inner, session, key.object, names, shared_id)
}

/// The class is always part of the search: without it the token also returns objects that are no keys
/// (Kryoptic: more than a hundred mechanisms).
fn all_private(session: &Session) -> Result<Vec<Private>, Fault> {
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    let keys = found.into_iter().map(|object| private(session, object));
    keys.collect()
}

fn private_with_id(session: &Session, id: &[u8]) -> Result<Vec<Private>, Fault> {
    if id.is_empty() {
        // A search for an empty value does not find objects that have none.
        let mut all = all_private(session)?;
        all.retain(|key| key.id.is_empty());
        return Ok(all);
    }
    let found = session.find_objects(&[
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Id(id.to_vec()),
    ])?;
    let keys = found.into_iter().map(|object| private(session, object));
    keys.collect()
}

/// Whether the session sees any private key, which most tokens show only after a login.
pub(super) fn shows_private_key(session: &Session) -> Result<bool, Fault> {
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    Ok(!found.is_empty())
}

fn private(session: &Session, object: ObjectHandle) -> Result<Private, Fault> {
    Ok(Private {
        object,
        id: bytes(session, object, AttributeType::Id)?.unwrap_or_default(),
        label: bytes(session, object, AttributeType::Label)?.unwrap_or_default(),
    })
}

fn report(
    session: &Session,
    key: &Private,
    public_key: Result<PublicKey, String>,
) -> Result<KeyReport, Fault> {
    Ok(KeyReport {
        label: String::from_utf8_lossy(&key.label).into_owned(),
        id: key.id.clone(),
        public_key,
        attestation: attestation(session, key.object)?,
    })
}

pub(super) fn attestation(session: &Session, key: ObjectHandle) -> Result<Attestation, Fault> {
    let flag = |kind| flag(session, key, kind);
    Ok(Attestation {
        local: flag(AttributeType::Local)?,
        always_sensitive: flag(AttributeType::AlwaysSensitive)?,
        never_extractable: flag(AttributeType::NeverExtractable)?,
        sensitive: flag(AttributeType::Sensitive)?,
        extractable: flag(AttributeType::Extractable)?,
        sign: flag(AttributeType::Sign)?,
        always_authenticate: flag(AttributeType::AlwaysAuthenticate)?,
    })
}
