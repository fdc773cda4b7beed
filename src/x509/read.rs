//! Strict reading of DER over borrowed bytes, on the reader of `der`, which refuses indefinite and
//! over-long lengths.

use std::ops::Range;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};

use crate::clock::UnixTime;

/// Malformed DER.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} is not well-formed DER: {why}")]
pub struct Malformed {
    /// The structure, by its name in the standard.
    pub what: &'static str,
    pub why: String,
}

impl Malformed {
    pub(super) fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }

    fn der(what: &'static str) -> impl Fn(der::Error) -> Self {
        move |error| Self::new(what, error.to_string())
    }
}

/// A reader of one structure's contents; errors name the structure.
pub(super) struct DerReader<'a> {
    reader: SliceReader<'a>,
    what: &'static str,
}

impl<'a> DerReader<'a> {
    pub(super) fn new(contents: &'a [u8], what: &'static str) -> Result<Self, Malformed> {
        let reader = SliceReader::new(contents).map_err(Malformed::der(what))?;
        Ok(Self { reader, what })
    }

    /// Reads the contents of the only element in `bytes`, which must have tag `tag`.
    pub(super) fn within(bytes: &'a [u8], tag: Tag, what: &'static str) -> Result<Self, Malformed> {
        Self::new(whole(bytes, tag, what)?, what)
    }

    /// Runs `read` for the next field, so that its errors name the field (as in the standard) instead
    /// of a position in the bytes.
    pub(super) fn field<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let is_missing = self.is_empty();
        read(self).map_err(|fault| {
            let why = match is_missing {
                true => format!("{name} is missing"),
                false => format!("{name}: {}", fault.why),
            };
            Malformed::new(fault.what, why)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next element.
    pub(super) fn any(&mut self) -> Result<AnyRef<'a>, Malformed> {
        AnyRef::decode(&mut self.reader).map_err(Malformed::der(self.what))
    }

    pub(super) fn peek(&self) -> Option<Tag> {
        Tag::peek(&self.reader).ok()
    }

    /// The contents of the next element, which must have tag `tag`.
    pub(super) fn expect(&mut self, tag: Tag) -> Result<&'a [u8], Malformed> {
        let element = self.any()?;
        if element.tag() == tag {
            Ok(element.value())
        } else {
            let why = format!("expected {tag}, found {}", element.tag());
            Err(Malformed::new(self.what, why))
        }
    }

    /// The contents of the next element, if it has tag `tag`.
    pub(super) fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) {
            self.expect(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The whole next element, which must have tag `tag`.
    pub(super) fn raw(&mut self, tag: Tag) -> Result<&'a [u8], Malformed> {
        match self.peek() {
            Some(found) if found != tag => Err(Malformed::new(
                self.what,
                format!("expected {tag}, found {found}"),
            )),
            _ => self.reader.tlv_bytes().map_err(Malformed::der(self.what)),
        }
    }

    /// The octets of a BIT STRING without unused bits.
    pub(super) fn bit_string_octets(&mut self) -> Result<&'a [u8], Malformed> {
        match self.expect(Tag::BitString)?.split_first() {
            Some((0, octets)) => Ok(octets),
            _ => Err(Malformed::new(
                self.what,
                "a BIT STRING is not whole octets",
            )),
        }
    }

    /// A Time (RFC 5280 §4.1.2.5).
    pub(super) fn time(&mut self) -> Result<UnixTime, Malformed> {
        let element = self.any()?;
        let since = match element.tag() {
            Tag::UtcTime => element
                .decode_as::<UtcTime>()
                .map(|time| time.to_unix_duration()),
            _ => element
                .decode_as::<GeneralizedTime>()
                .map(|time| time.to_unix_duration()),
        }
        .map_err(Malformed::der(self.what))?;
        Ok(UnixTime::from_secs(
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        ))
    }

    /// Ends the structure; nothing may follow.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        self.reader.finish().map_err(Malformed::der(self.what))
    }
}

/// The contents of the only element in `bytes`, which must have tag `tag`.
pub(super) fn whole<'a>(
    bytes: &'a [u8],
    tag: Tag,
    what: &'static str,
) -> Result<&'a [u8], Malformed> {
    let mut outer = DerReader::new(bytes, what)?;
    let contents = outer.expect(tag)?;
    outer.finish()?;
    Ok(contents)
}

/// DER allows two values of a BOOLEAN (X.690 §11.1).
pub(super) fn boolean(contents: &[u8], what: &'static str) -> Result<bool, Malformed> {
    match contents {
        [0x00] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(Malformed::new(what, "a BOOLEAN is neither 00 nor FF")),
    }
}

/// The octets of a non-negative INTEGER's contents, without the leading zero.
pub(super) fn unsigned<'a>(contents: &'a [u8], what: &'static str) -> Result<&'a [u8], Malformed> {
    match contents {
        [] => Err(Malformed::new(what, "an INTEGER is empty")),
        [0] => Ok(contents),
        [0, second, ..] if *second < 0x80 => Err(Malformed::new(
            what,
            "an INTEGER has a redundant leading zero",
        )),
        [0, rest @ ..] => Ok(rest),
        [first, ..] if *first >= 0x80 => Err(Malformed::new(what, "an INTEGER is negative")),
        _ => Ok(contents),
    }
}

/// An INTEGER's contents as a small number; `None` if it does not fit.
pub(super) fn small(contents: &[u8], what: &'static str) -> Result<Option<u8>, Malformed> {
    match unsigned(contents, what)? {
        [number] => Ok(Some(*number)),
        _ => Ok(None),
    }
}

/// The position in `outer` of its subslice `inner`.
pub(super) fn range_of(outer: &[u8], inner: &[u8]) -> Range<usize> {
    let start = inner.as_ptr().addr().saturating_sub(outer.as_ptr().addr());
    start..start.saturating_add(inner.len())
}

pub(super) fn context(number: u32, constructed: bool) -> Tag {
    Tag::ContextSpecific {
        constructed,
        number: der::TagNumber(number),
    }
}

/// Whether the elements of a SET OF's contents are in DER's order (X.690 §11.6), without
/// duplicates.
pub(super) fn is_sorted_set(contents: &[u8], what: &'static str) -> Result<bool, Malformed> {
    let mut set = DerReader::new(contents, what)?;
    let mut last: &[u8] = &[];
    while !set.is_empty() {
        let element = set.reader.tlv_bytes().map_err(Malformed::der(what))?;
        if element <= last {
            return Ok(false);
        }
        last = element;
    }
    Ok(true)
}
