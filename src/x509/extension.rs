//! Certificate extensions (RFC 5280 §4.2): those that are understood, and those that are issued.

use der::Tag;
use der::oid::ObjectIdentifier;

use super::read::{self, DerReader, Malformed};
use super::write;

/// The contents of the extensions' OIDs.
pub(super) const SUBJECT_KEY_ID: &[u8] = b"\x55\x1d\x0e";
pub(super) const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
pub(super) const SUBJECT_ALT_NAME: &[u8] = b"\x55\x1d\x11";
pub(super) const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
pub(super) const NAME_CONSTRAINTS: &[u8] = b"\x55\x1d\x1e";
pub(super) const CRL_DISTRIBUTION_POINTS: &[u8] = b"\x55\x1d\x1f";
pub(super) const AUTHORITY_KEY_ID: &[u8] = b"\x55\x1d\x23";
pub(super) const EXTENDED_KEY_USAGE: &[u8] = b"\x55\x1d\x25";

/// The contents of the key purposes' OIDs.
pub(super) const SERVER_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x01";
pub(super) const CLIENT_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x02";
const ANY_PURPOSE: &[u8] = b"\x55\x1d\x25\x00";

#[derive(Clone, Copy)]
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    /// The contents of extnValue: the extension's own DER.
    pub(super) value: &'a [u8],
}

pub(super) enum ExtensionListError {
    Malformed(Malformed),
    TooMany,
    Duplicate(String),
}

impl From<Malformed> for ExtensionListError {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

/// Reads the contents of Extensions: at least one, at most `limit`, no duplicates (RFC 5280 §4.2).
pub(super) fn list(
    contents: &[u8],
    limit: usize,
) -> Result<Vec<Extension<'_>>, ExtensionListError> {
    const WHAT: &str = "list of extensions";
    let mut outer = DerReader::new(contents, WHAT)?;
    let mut found: Vec<Extension<'_>> = Vec::with_capacity(limit.min(8));
    while !outer.is_empty() {
        if found.len() == limit {
            return Err(ExtensionListError::TooMany);
        }
        let mut inner = DerReader::new(outer.expect(Tag::Sequence)?, WHAT)?;
        let oid = inner.expect(Tag::ObjectIdentifier)?;
        let critical = match inner.optional(Tag::Boolean)? {
            Some(flag) => read::boolean(flag, WHAT)?,
            None => false,
        };
        let value = inner.expect(Tag::OctetString)?;
        inner.finish()?;
        if found.iter().any(|earlier| earlier.oid == oid) {
            return Err(ExtensionListError::Duplicate(oid_text(oid)));
        }
        found.push(Extension {
            oid,
            critical,
            value,
        });
    }
    if found.is_empty() {
        return Err(Malformed::new(WHAT, "it is empty").into());
    }
    Ok(found)
}

/// An OID's contents in dotted form.
pub(super) fn oid_text(contents: &[u8]) -> String {
    ObjectIdentifier::from_bytes(contents)
        .map_or_else(|_| "a malformed OID".into(), |oid| oid.to_string())
}

/// The bits of keyUsage (RFC 5280 §4.2.1.3); the standard's bit 0 is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    pub const DIGITAL_SIGNATURE: Self = Self(0x8000);
    pub const KEY_ENCIPHERMENT: Self = Self(0x2000);
    pub const KEY_CERT_SIGN: Self = Self(0x0400);
    pub const CRL_SIGN: Self = Self(0x0200);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn from_der(value: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "keyUsage extension";
        let (unused, bits) = match read::whole(value, Tag::BitString, WHAT)? {
            [unused, first] => (*unused, u16::from(*first) << 8),
            [unused, first, second] => (*unused, u16::from(*first) << 8 | u16::from(*second)),
            _ => return Err(Malformed::new(WHAT, "its BIT STRING is not 1 or 2 octets")),
        };
        if unused > 7 || bits == 0 {
            return Err(Malformed::new(
                WHAT,
                "no bit is set, or the count of unused bits is wrong",
            ));
        }
        Ok(Self(bits))
    }

    /// The extension's value in DER: a named-bit list without trailing zeros (X.690 §11.2.2).
    pub(super) fn to_der(self) -> Vec<u8> {
        let [first, second] = self.0.to_be_bytes();
        let octets: &[u8] = if second == 0 {
            &[first]
        } else {
            &[first, second]
        };
        let last = octets.last().copied().unwrap_or_default();
        let unused = u8::try_from(last.trailing_zeros().min(7)).unwrap_or(0);
        write::element(write::BIT_STRING, &[&[unused], octets])
    }
}

/// basicConstraints (RFC 5280 §4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BasicConstraints {
    pub(super) ca: bool,
    pub(super) path_len: Option<u8>,
}

impl BasicConstraints {
    pub(super) fn from_der(value: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "basicConstraints extension";
        let mut fields = DerReader::within(value, Tag::Sequence, WHAT)?;
        let ca = match fields.optional(Tag::Boolean)? {
            Some(flag) => read::boolean(flag, WHAT)?,
            None => false,
        };
        let path_len = match fields.optional(Tag::Integer)? {
            // No path is longer than 255, so a larger number has the same effect.
            Some(number) => Some(read::small(number, WHAT)?.unwrap_or(u8::MAX)),
            None => None,
        };
        fields.finish()?;
        if path_len.is_some() && !ca {
            return Err(Malformed::new(WHAT, "there is a path length with CA:FALSE"));
        }
        Ok(Self { ca, path_len })
    }

    pub(super) fn to_der(self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(8);
        if self.ca {
            write::tlv(&mut fields, write::BOOLEAN, &[&[0xff]]);
        }
        if let Some(path_len) = self.path_len {
            write::unsigned(&mut fields, &[path_len]);
        }
        write::element(write::SEQUENCE, &[&fields])
    }
}

/// extKeyUsage (RFC 5280 §4.2.1.12). Only parsed certificates and requests have purposes other than
/// serverAuth and clientAuth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage(u8);

impl ExtendedKeyUsage {
    pub const NONE: Self = Self(0);
    pub const SERVER_AUTH: Self = Self(1);
    pub const CLIENT_AUTH: Self = Self(2);
    pub const SERVER_AND_CLIENT: Self = Self(3);
    pub(super) const ANY: Self = Self(4);
    const OTHER: Self = Self(8);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn from_der(value: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "extKeyUsage extension";
        let mut list = DerReader::within(value, Tag::Sequence, WHAT)?;
        let mut found = Self::NONE;
        while !list.is_empty() {
            let oid = list.expect(Tag::ObjectIdentifier)?;
            ObjectIdentifier::from_bytes(oid).map_err(|e| Malformed::new(WHAT, e.to_string()))?;
            found = found.with(match oid {
                SERVER_AUTH => Self::SERVER_AUTH,
                CLIENT_AUTH => Self::CLIENT_AUTH,
                ANY_PURPOSE => Self::ANY,
                _ => Self::OTHER,
            });
        }
        match found {
            Self::NONE => Err(Malformed::new(WHAT, "it is empty")),
            found => Ok(found),
        }
    }
}

/// The keyIdentifier of authorityKeyIdentifier (RFC 5280 §4.2.1.1), which may be absent.
pub(super) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    const WHAT: &str = "authorityKeyIdentifier extension";
    let mut fields = DerReader::within(value, Tag::Sequence, WHAT)?;
    let id = fields.optional(read::context(0, false))?;
    while !fields.is_empty() {
        fields.any()?;
    }
    Ok(id)
}

/// Appends an Extension with the DER `value`.
pub(super) fn write_extension(out: &mut Vec<u8>, oid: &[u8], critical: bool, value: &[u8]) {
    const CRITICAL: &[u8] = b"\x01\x01\xff";
    let mut head = Vec::with_capacity(16);
    write::tlv(&mut head, write::OID, &[oid]);
    if critical {
        head.extend_from_slice(CRITICAL);
    }
    write::header(&mut head, write::OCTET_STRING, value.len());
    write::tlv(out, write::SEQUENCE, &[&head, value]);
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::*;

    #[test]
    fn key_usage_goes_to_der_and_back() {
        let ca = KeyUsage::KEY_CERT_SIGN.with(KeyUsage::CRL_SIGN);
        assert_eq!(ca.to_der(), [3, 2, 1, 6]);
        assert_eq!(KeyUsage::DIGITAL_SIGNATURE.to_der(), [3, 2, 7, 0x80]);
        assert_eq!(KeyUsage(0x0080).to_der(), [3, 3, 7, 0, 0x80]);
        for bits in [0x8000, 0xa000, 0x0600, 0x0080, 0xff80] {
            assert_eq!(
                KeyUsage::from_der(&KeyUsage(bits).to_der()).unwrap(),
                KeyUsage(bits)
            );
        }
        for bad in [
            &[3, 1, 0][..],
            &[3, 2, 8, 1],
            &[3, 2, 0, 0],
            &[3, 4, 0, 1, 1, 1],
            &[4, 1, 1],
        ] {
            assert!(KeyUsage::from_der(bad).is_err());
        }
    }

    #[test]
    fn basic_constraints_go_to_der_and_back() {
        for (ca, path_len) in [
            (false, None),
            (true, None),
            (true, Some(0)),
            (true, Some(200)),
        ] {
            let value = BasicConstraints { ca, path_len };
            assert_eq!(BasicConstraints::from_der(&value.to_der()).unwrap(), value);
        }
        // A path length without CA; a negative one; a BOOLEAN of 01; a trailing octet.
        for bad in [
            &b"\x30\x03\x02\x01\x00"[..],
            b"\x30\x06\x01\x01\xff\x02\x01\xff",
            b"\x30\x03\x01\x01\x01",
            b"\x30\x00\x00",
        ] {
            assert!(BasicConstraints::from_der(bad).is_err());
        }
        let huge = b"\x30\x07\x01\x01\xff\x02\x02\x01\x00";
        assert_eq!(
            BasicConstraints::from_der(huge).unwrap().path_len,
            Some(255)
        );
    }
}
