//! The attributes of a request, and the extensions among them.

use der::asn1::PrintableStringRef;
use der::{Tag, Tagged};

use super::error::CsrError;
use super::{MAX_ATTRIBUTES, MAX_EXTENSIONS, MAX_NAMES, Purpose, canonical};
use crate::x509::extension::{self, BasicConstraints, ExtendedKeyUsage, Extension, KeyUsage};
use crate::x509::name::NameError;
use crate::x509::read::{self, DerReader, Malformed};
use crate::x509::san::San;

/// OIDs of attributes: extensionRequest (RFC 2985 §5.4.2), challengePassword, and Microsoft's older
/// form of extensionRequest.
const EXTENSION_REQUEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
const CHALLENGE_PASSWORD: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07";
const MICROSOFT_EXTENSIONS: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0e";

/// The requested names. Each attribute may occur once, extensionRequest with exactly one value.
pub(super) fn names_in(contents: &[u8], purpose: Purpose) -> Result<Vec<San>, CsrError> {
    const WHAT: &str = "list of attributes";
    if !read::is_sorted_set(contents, WHAT)? {
        return Err(CsrError::NotCanonical);
    }
    let mut attributes = DerReader::new(contents, WHAT)?;
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut names = Vec::new();
    while !attributes.is_empty() {
        if seen.len() == MAX_ATTRIBUTES {
            return Err(CsrError::TooManyAttributes);
        }
        let mut attribute = DerReader::new(attributes.expect(Tag::Sequence)?, WHAT)?;
        let oid = attribute.expect(Tag::ObjectIdentifier)?;
        let values = attribute.expect(Tag::Set)?;
        attribute.finish()?;
        if values.is_empty() || !read::is_sorted_set(values, WHAT)? {
            return Err(
                Malformed::new(WHAT, "an attribute's values are empty or not sorted").into(),
            );
        }
        if seen.contains(&oid) {
            return Err(CsrError::DuplicateAttribute {
                oid: extension::oid_text(oid),
            });
        }
        seen.push(oid);
        match oid {
            EXTENSION_REQUEST => {
                names = names_in_extensions(read::whole(values, Tag::Sequence, WHAT)?, purpose)?;
            }
            // It could hide names and constraints from the checks below.
            MICROSOFT_EXTENSIONS => {
                return Err(CsrError::AttributeNotAllowed {
                    oid: extension::oid_text(oid),
                });
            }
            CHALLENGE_PASSWORD => check_password(values)?,
            // Others, such as unstructuredName, request nothing.
            _ => {}
        }
    }
    Ok(names)
}

/// challengePassword (RFC 2985 §5.4.1) requests nothing, but other parsers fail on one that is not
/// a single string.
fn check_password(values: &[u8]) -> Result<(), Malformed> {
    const WHAT: &str = "challengePassword";
    let mut set = DerReader::new(values, WHAT)?;
    let value = set.any()?;
    set.finish()?;
    let octets = value.value();
    let is_text = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(octets).is_ok(),
        Tag::PrintableString => PrintableStringRef::new(octets).is_ok(),
        Tag::TeletexString => octets.is_ascii(),
        _ => false,
    };
    if is_text {
        Ok(())
    } else {
        Err(Malformed::new(WHAT, "its value is not a text string"))
    }
}

fn names_in_extensions(contents: &[u8], purpose: Purpose) -> Result<Vec<San>, CsrError> {
    let list = extension::list(contents, MAX_EXTENSIONS)?;
    let mut reencoded = Vec::with_capacity(contents.len());
    for one in &list {
        extension::write_extension(&mut reencoded, one.oid, one.critical, one.value);
    }
    if reencoded != contents {
        return Err(CsrError::NotCanonical);
    }
    let mut names = Vec::new();
    for one in list {
        check_extension(one, purpose, &mut names)?;
    }
    Ok(names)
}

/// The extensions that a request may have. All but the names come from the profile, so the others
/// are only checked not to request more than is issued.
fn check_extension(
    one: Extension<'_>,
    purpose: Purpose,
    names: &mut Vec<San>,
) -> Result<(), CsrError> {
    let for_ca = purpose == Purpose::Ca;
    match one.oid {
        extension::SUBJECT_ALT_NAME => read_names(one.value, purpose, names)?,
        extension::KEY_USAGE => {
            let usage = KeyUsage::from_der(one.value)?;
            let is_ca =
                usage.contains(KeyUsage::KEY_CERT_SIGN) || usage.contains(KeyUsage::CRL_SIGN);
            if is_ca && !for_ca {
                return Err(CsrError::CaCertificateRequested {
                    how: "keyUsage keyCertSign or cRLSign",
                });
            }
            canonical(usage.to_der() == one.value)?;
        }
        extension::BASIC_CONSTRAINTS => {
            let basic = BasicConstraints::from_der(one.value)?;
            if basic.ca && !for_ca {
                return Err(CsrError::CaCertificateRequested {
                    how: "basicConstraints CA:TRUE",
                });
            }
            canonical(basic.to_der() == one.value)?;
        }
        extension::EXTENDED_KEY_USAGE => {
            ExtendedKeyUsage::from_der(one.value)?;
        }
        extension::SUBJECT_KEY_ID => {
            read::whole(
                one.value,
                Tag::OctetString,
                "subjectKeyIdentifier extension",
            )?;
        }
        other => {
            return Err(CsrError::ExtensionNotAllowed {
                oid: extension::oid_text(other),
            });
        }
    }
    Ok(())
}

fn read_names(value: &[u8], purpose: Purpose, names: &mut Vec<San>) -> Result<(), CsrError> {
    const WHAT: &str = "subjectAltName extension";
    let mut list = DerReader::within(value, Tag::Sequence, WHAT)?;
    while !list.is_empty() {
        if names.len() == MAX_NAMES {
            return Err(CsrError::TooManyNames);
        }
        let name = list.any()?;
        match San::from_general_name(name) {
            Some(Ok(San::Spiffe(id))) if id.path().is_empty() && purpose == Purpose::EndEntity => {
                return Err(NameError::NoPath {
                    name: id.to_string(),
                }
                .into());
            }
            Some(name) => names.push(name?),
            None => {
                return Err(CsrError::UnsupportedNameKind {
                    kind: name_kind(name.tag()),
                });
            }
        }
    }
    if names.is_empty() {
        return Err(Malformed::new(WHAT, "it is empty").into());
    }
    Ok(())
}

/// The name of a GeneralName's kind (RFC 5280 §4.2.1.6).
fn name_kind(tag: Tag) -> &'static str {
    let Tag::ContextSpecific { number, .. } = tag else {
        return "a name of an unknown kind";
    };
    match number.value() {
        0 => "otherName",
        1 => "rfc822Name (an e-mail address)",
        3 => "x400Address",
        4 => "directoryName",
        5 => "ediPartyName",
        8 => "registeredID",
        _ => "a name of an unknown kind",
    }
}
