//! Data objects (CKO_DATA): what this program stores in a token beside keys. Private: a login is needed to
//! read one.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::Session;

use super::attributes::bytes;
use super::fault::Fault;

/// CKA_APPLICATION of every one.
const APPLICATION: &[u8] = b"rootbridge";

fn named(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Application(APPLICATION.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ]
}

/// The values of all with that label: two after a replacement that was interrupted.
pub(super) fn read(session: &Session, label: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let mut values = Vec::new();
    for object in session.find_objects(&named(label))? {
        values.extend(bytes(session, object, AttributeType::Value)?);
    }
    Ok(values)
}

/// Leaves one with that label. The new one is there before the old one goes.
pub(super) fn replace(session: &Session, label: &str, value: &[u8]) -> Result<(), Fault> {
    let older = session.find_objects(&named(label))?;
    let mut template = named(label);
    template.extend([Attribute::Private(true), Attribute::Value(value.to_vec())]);
    session.create_object(&template)?;
    for object in older {
        session.destroy_object(object)?;
    }
    Ok(())
}
