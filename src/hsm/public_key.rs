//! The public key of a private key.
//!
//! PKCS#11 connects the two objects by nothing but a CKA_ID that the application chooses. Several keys
//! can have the same one, and a private EC key shows no point on most tokens. So where the objects
//! leave a choice, a signature decides: a test signature that verifies proves which public key it is.

use std::sync::atomic::Ordering;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::attributes::bytes;
use super::error::FaultClass;
use super::fault::Fault;
use super::mechanism;
use super::signing_key::TEST_MESSAGE;
use super::token_inner::TokenInner;
use crate::x509::{Certificate, PublicKey};

/// The public key of a private key, as far as the token's objects show it.
pub(super) struct Shown {
    /// Or why it cannot be read.
    pub(super) key: Result<PublicKey, String>,
    /// The private key's own attributes or a signature show it. Otherwise it is that of an object with
    /// the same CKA_ID.
    pub(super) certain: bool,
}

/// The public key of `private`. `shared_id`: another private key has the same CKA_ID.
pub(super) fn of_private(
    inner: &TokenInner,
    session: &Session,
    private: ObjectHandle,
    (id, label): (&[u8], &[u8]),
    shared_id: bool,
) -> Result<Shown, Fault> {
    if let Some(key) = of_object(session, private)? {
        return Ok(Shown { key, certain: true });
    }
    let mut candidates = candidates(session, id, label)?;
    if candidates.len() > 1 || (shared_id && !candidates.is_empty()) {
        for candidate in candidates.iter().flatten() {
            if signs_for(inner, session, private, candidate)? {
                let key = Ok(candidate.clone());
                return Ok(Shown { key, certain: true });
            }
        }
        let reason = format!(
            "{} public keys have its CKA_ID, and none verifies its signature",
            candidates.len()
        );
        return Ok(Shown {
            key: Err(reason),
            certain: false,
        });
    }
    let key = candidates.pop().unwrap_or_else(|| {
        Err(
            "neither a public key nor a certificate has the same CKA_ID; import one next to it"
                .into(),
        )
    });
    Ok(Shown {
        key,
        certain: false,
    })
}

/// Whether the private key's test signature verifies with `public`.
pub(super) fn signs_for(
    inner: &TokenInner,
    session: &Session,
    private: ObjectHandle,
    public: &PublicKey,
) -> Result<bool, Fault> {
    let Some(algorithm) = public.kind().ca_algorithm() else {
        return Ok(false);
    };
    let hashed = inner.hashed_in_token();
    let raw = match mechanism::sign(session, private, algorithm, hashed, TEST_MESSAGE) {
        Ok(raw) => raw,
        Err(fault) => {
            return match fault.class() {
                // A key of another type, or one that may not sign.
                FaultClass::Refused => Ok(false),
                FaultClass::Busy | FaultClass::Lost => Err(fault),
            };
        }
    };
    inner.test_signatures.fetch_add(1, Ordering::Relaxed);
    let signature = mechanism::signature(public.kind(), raw);
    Ok(signature.is_ok_and(|signature| public.verify(algorithm, TEST_MESSAGE, &signature).is_ok()))
}

/// The public key that an object's own attributes show; `None` when they show none.
pub(super) fn of_object(
    session: &Session,
    object: ObjectHandle,
) -> Result<Option<Result<PublicKey, String>>, Fault> {
    let read = |kind| bytes(session, object, kind);
    if let (Some(params), Some(point)) = (
        read(AttributeType::EcParams)?,
        read(AttributeType::EcPoint)?,
    ) {
        return Ok(Some(mechanism::ec_public_key(&params, &point)));
    }
    if let (Some(modulus), Some(exponent)) = (
        read(AttributeType::Modulus)?,
        read(AttributeType::PublicExponent)?,
    ) {
        return Ok(Some(mechanism::rsa_public_key(&modulus, &exponent)));
    }
    let info = read(AttributeType::PublicKeyInfo)?;
    Ok(info.map(|der| PublicKey::from_spki_der(&der).map_err(|error| error.to_string())))
}

/// The different public keys that may belong to a private key with this CKA_ID.
fn candidates(
    session: &Session,
    id: &[u8],
    label: &[u8],
) -> Result<Vec<Result<PublicKey, String>>, Fault> {
    let class = |class| Attribute::Class(class);
    let named = |class, name: Attribute| session.find_objects(&[class, name]);
    let mut found: Vec<Result<PublicKey, String>> = Vec::new();
    let mut add = |key: Result<PublicKey, String>| {
        if !found.contains(&key) {
            found.push(key);
        }
    };
    let mut public = Vec::new();
    if !id.is_empty() {
        public = named(class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.to_vec()))?;
        // Smart cards hold a certificate and no public key object.
        for object in named(class(ObjectClass::CERTIFICATE), Attribute::Id(id.to_vec()))? {
            if let Some(der) = bytes(session, object, AttributeType::Value)?
                && let Ok(certificate) = Certificate::parse(der)
            {
                add(Ok(certificate.public_key().clone()));
            }
        }
    }
    // Some tokens give the two objects different CKA_IDs, or none.
    if public.is_empty() && !label.is_empty() {
        public = named(
            class(ObjectClass::PUBLIC_KEY),
            Attribute::Label(label.to_vec()),
        )?;
    }
    for object in public {
        if let Some(key) = of_object(session, object)? {
            add(key);
        }
    }
    if found.iter().any(Result::is_ok) {
        found.retain(Result::is_ok);
    }
    Ok(found)
}
