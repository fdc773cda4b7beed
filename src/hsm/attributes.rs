//! Reads attributes of objects, one at a time: a token that does not know one of several may return
//! none.

use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

use super::fault::Fault;

/// `None` when the token does not report the attribute, or reports it without a value.
pub(super) fn bytes(
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
            | Attribute::PublicExponent(value)
            | Attribute::PublicKeyInfo(value)
            | Attribute::Value(value) => Some(value).filter(|value| !value.is_empty()),
            _ => None,
        }),
    )
}

/// `None` when the token does not report the attribute.
pub(super) fn flag(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<bool>, Fault> {
    Ok(
        attribute(session, object, kind)?.and_then(|attribute| match attribute {
            Attribute::Local(yes)
            | Attribute::AlwaysSensitive(yes)
            | Attribute::NeverExtractable(yes)
            | Attribute::Sensitive(yes)
            | Attribute::Extractable(yes)
            | Attribute::Sign(yes)
            | Attribute::AlwaysAuthenticate(yes) => Some(yes),
            _ => None,
        }),
    )
}

fn attribute(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<Attribute>, Fault> {
    match session.get_attributes(object, &[kind]) {
        Ok(attributes) => Ok(attributes.into_iter().next()),
        // The last two: what some modules answer for an attribute that the object does not have.
        Err(Error::Pkcs11(
            RvError::AttributeTypeInvalid
            | RvError::AttributeSensitive
            | RvError::AttributeValueInvalid
            | RvError::FunctionNotSupported,
            _,
        )) => Ok(None),
        // A value that cannot be converted counts as not reported.
        Err(error @ Error::Pkcs11(..)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}
