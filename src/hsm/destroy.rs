//! Destroys a key pair that nothing needs.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::Session;

use super::attributes::bytes;
use super::error::HsmError;
use super::fault::Fault;
use super::keys::locate;
use super::public_key;
use super::token_inner::TokenInner;
use crate::digest::hex;
use crate::x509::PublicKey;

/// Destroys the private key of `expected`, and then the object of its public key. A key that is open
/// for signing stays.
pub(super) fn destroy(
    inner: &TokenInner,
    session: &Session,
    id: &[u8],
    expected: &PublicKey,
) -> Result<(), HsmError> {
    let call = |fault| inner.call_error(fault);
    let token = || inner.name.clone();
    if inner
        .open_keys()
        .iter()
        .any(|open| open.public == *expected)
    {
        return Err(HsmError::KeyInUse {
            token: token(),
            id: hex(id),
        });
    }
    let key = locate(inner, session, id, expected).map_err(call)?;
    let key = key.ok_or_else(|| HsmError::NoSuchKey {
        token: token(),
        id: hex(id),
    })?;
    // Found before its private key is gone, which may tell it from others.
    let shown = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY)]);
    let mut public = Vec::new();
    for object in shown.map_err(|error| call(error.into()))? {
        let same_id = bytes(session, object, AttributeType::Id).map_err(call)?;
        let shown = public_key::of_object(session, object).map_err(call)?;
        if same_id.unwrap_or_default() == key.id && shown == Some(Ok(expected.clone())) {
            public.push(object);
        }
    }
    session
        .destroy_object(key.object)
        .map_err(|error| call(error.into()))?;
    for object in public {
        // It signs nothing, and the private key is gone.
        if let Err(error) = session.destroy_object(object) {
            let error = Fault::from(error);
            tracing::warn!(token = inner.name, key = hex(id), %error, "the public key is left over");
        }
    }
    Ok(())
}
