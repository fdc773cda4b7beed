//! Distinguished names, and their text (RFC 4514).

use std::fmt::Write;

use der::asn1::AnyRef;
use der::{Encode, Tag, Tagged};

use super::extension::oid_text;
use super::read::{self, DerReader, Malformed};

const WHAT: &str = "distinguished name";
pub(super) const COMMON_NAME: &[u8] = b"\x55\x04\x03";

/// Whether a well-formed Name has no RDN, or only empty strings, as in the `O=""` of Istio's Go
/// client.
pub(super) fn is_empty(contents: &[u8]) -> Result<bool, Malformed> {
    let mut nothing = true;
    each_attribute(contents, |_, value, _| {
        nothing &= value.value().is_empty();
    })?;
    Ok(nothing)
}

/// Every commonName in order; `None` for one that is not text.
pub(super) fn common_names(contents: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let mut names = Vec::new();
    each_attribute(contents, |oid, value, _| {
        if oid == COMMON_NAME {
            names.push(string(value));
        }
    })?;
    Ok(names)
}

/// Whether the attributes of each RDN are in DER's order. Some CAs' certificates violate it;
/// requests must not, also because sorting a long SET is slow.
pub(super) fn is_sorted(contents: &[u8]) -> Result<bool, Malformed> {
    let mut rdns = DerReader::new(contents, WHAT)?;
    while !rdns.is_empty() {
        if !read::is_sorted_set(rdns.expect(Tag::Set)?, WHAT)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A Name's contents in RFC 4514 form: the last RDN first.
pub(super) fn text(contents: &[u8]) -> Result<String, Malformed> {
    let mut rdns: Vec<String> = Vec::new();
    each_attribute(contents, |oid, value, first| {
        let printable = attribute_text(oid, value);
        match rdns.last_mut() {
            Some(rdn) if !first => {
                rdn.push('+');
                rdn.push_str(&printable);
            }
            _ => rdns.push(printable),
        }
    })?;
    rdns.reverse();
    Ok(rdns.join(","))
}

/// Whether a Name has no RDN at all.
pub(super) fn has_no_attribute(name: &[u8]) -> bool {
    attributes(name).is_some_and(|attributes| attributes.is_empty())
}

/// A value of a Name that parsers refuse.
pub(super) struct StringProblem {
    pub(super) why: String,
    /// Whether OpenSSL refuses it as well as Go, which alone checks the characters of each string type.
    pub(super) openssl: bool,
    /// Whether BoringSSL does.
    pub(super) boringssl: bool,
}

pub(super) fn string_problem(name: &[u8]) -> Option<StringProblem> {
    attributes(name)?.into_iter().find_map(|(oid, value)| {
        let octets = value.value();
        let (valid, everywhere) = match value.tag() {
            Tag::PrintableString => (octets.iter().all(|o| is_printable(*o)), false),
            Tag::Utf8String => (std::str::from_utf8(octets).is_ok(), true),
            Tag::Ia5String => (octets.is_ascii(), false),
            Tag::NumericString => {
                let is_numeric = |o: &u8| o.is_ascii_digit() || *o == b' ';
                (octets.iter().all(is_numeric), false)
            }
            Tag::BmpString => (is_bmp(octets), true),
            Tag::TeletexString => (true, false),
            other => {
                let name = attribute_name(oid);
                return Some(StringProblem {
                    why: format!("{name} is a {other}, which is no string type that it knows"),
                    openssl: other == Tag::VisibleString,
                    boringssl: false,
                });
            }
        };
        let (name, kind) = (attribute_name(oid), type_name(value.tag()));
        (!valid).then(|| StringProblem {
            why: format!("{name} is no valid {kind}: {}", attribute_text(oid, value)),
            openssl: everywhere,
            boringssl: everywhere,
        })
    })
}

/// X.680 §41.4, and `*` and `&`, which Go lets pass.
fn is_printable(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&octet)
}

fn is_bmp(octets: &[u8]) -> bool {
    octets.len().is_multiple_of(2)
        && octets.chunks_exact(2).all(|pair| {
            let unit = pair.iter().fold(0_u16, |unit, o| unit << 8 | u16::from(*o));
            !matches!(unit, 0xd800..=0xdfff | 0xfdd0..=0xfdef | 0xfffe | 0xffff)
        })
}

/// How two Names differ that say the same: the first attribute in which only the string type, the
/// case of letters or blanks differ (RFC 5280 §7.1 calls such names equal). `None` for other names.
pub(super) fn difference_in_form(one: &[u8], other: &[u8]) -> Option<String> {
    let (one, other) = (attributes(one)?, attributes(other)?);
    if one.len() != other.len() {
        return None;
    }
    let mut difference = None;
    for ((oid, value), (other_oid, other_value)) in one.into_iter().zip(other) {
        let (text, other_text) = (string(value)?, string(other_value)?);
        if oid != other_oid || folded(&text) != folded(&other_text) {
            return None;
        }
        let how = if value.tag() != other_value.tag() {
            let (tag, other_tag) = (type_name(value.tag()), type_name(other_value.tag()));
            format!("a {tag} here, a {other_tag} there")
        } else if text != other_text {
            format!("`{text}` here, `{other_text}` there")
        } else {
            continue;
        };
        difference.get_or_insert(format!("{} is {how}", attribute_name(oid)));
    }
    difference
}

pub(super) fn attributes(name: &[u8]) -> Option<Vec<(&[u8], AnyRef<'_>)>> {
    let mut found = Vec::new();
    let contents = read::whole(name, Tag::Sequence, WHAT).ok()?;
    each_attribute(contents, |oid, value, _| found.push((oid, value))).ok()?;
    Some(found)
}

/// Without case, and with one blank for several.
fn folded(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

fn type_name(tag: Tag) -> &'static str {
    match tag {
        Tag::Utf8String => "UTF8String",
        Tag::PrintableString => "PrintableString",
        Tag::Ia5String => "IA5String",
        Tag::TeletexString => "TeletexString",
        Tag::BmpString => "BMPString",
        Tag::NumericString => "NumericString",
        _ => "string of another type",
    }
}

/// Calls `visit` with each attribute's type and value, and whether it is the first of its RDN.
fn each_attribute<'a>(
    contents: &'a [u8],
    mut visit: impl FnMut(&'a [u8], AnyRef<'a>, bool),
) -> Result<(), Malformed> {
    let mut rdns = DerReader::new(contents, WHAT)?;
    while !rdns.is_empty() {
        let mut set = DerReader::new(rdns.expect(Tag::Set)?, WHAT)?;
        let mut first = true;
        while first || !set.is_empty() {
            let mut attribute = DerReader::new(set.expect(Tag::Sequence)?, WHAT)?;
            let oid = attribute.expect(Tag::ObjectIdentifier)?;
            visit(oid, attribute.any()?, first);
            attribute.finish()?;
            first = false;
        }
    }
    Ok(())
}

fn short_name(oid: &[u8]) -> Option<&'static str> {
    match oid {
        b"\x55\x04\x03" => Some("CN"),
        b"\x55\x04\x06" => Some("C"),
        b"\x55\x04\x07" => Some("L"),
        b"\x55\x04\x08" => Some("ST"),
        b"\x55\x04\x09" => Some("STREET"),
        b"\x55\x04\x0a" => Some("O"),
        b"\x55\x04\x0b" => Some("OU"),
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19" => Some("DC"),
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01" => Some("UID"),
        _ => None,
    }
}

fn attribute_name(oid: &[u8]) -> String {
    short_name(oid).map_or_else(|| oid_text(oid), Into::into)
}

fn attribute_text(oid: &[u8], value: AnyRef<'_>) -> String {
    let short = short_name(oid);
    match (short, string(value)) {
        (Some(short), Some(value)) => format!("{short}={}", escaped(&value)),
        (short, _) => {
            let mut out = short.map_or_else(|| oid_text(oid), Into::into);
            out.push_str("=#");
            for octet in value.to_der().unwrap_or_default() {
                let _ = write!(out, "{octet:02x}");
            }
            out
        }
    }
}

pub(super) fn string(value: AnyRef<'_>) -> Option<String> {
    let octets = value.value();
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(octets).ok().map(Into::into),
        Tag::PrintableString | Tag::Ia5String if octets.is_ascii() => {
            std::str::from_utf8(octets).ok().map(Into::into)
        }
        // T.61 in practice: Latin-1.
        Tag::TeletexString => Some(octets.iter().copied().map(char::from).collect()),
        Tag::BmpString if octets.len() % 2 == 0 => {
            let units: Vec<u16> = octets
                .chunks_exact(2)
                .map(|pair| {
                    pair.iter()
                        .fold(0, |unit, octet| unit << 8 | u16::from(*octet))
                })
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4, and control characters as hex pairs too, so that none reaches a terminal.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let edge = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        if c.is_control() {
            let mut utf8 = [0; 4];
            for octet in c.encode_utf8(&mut utf8).bytes() {
                let _ = write!(out, "\\{octet:02x}");
            }
        } else {
            if edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::super::write;
    use super::*;

    fn printable(der: &[u8]) -> String {
        text(read::whole(der, Tag::Sequence, WHAT).unwrap()).unwrap()
    }

    #[test]
    fn shows_other_strings_and_types() {
        let rdn = |inner: &[u8]| {
            let attribute = write::element(write::SEQUENCE, &[inner]);
            let set = write::element(write::SET, &[&attribute]);
            write::element(write::SEQUENCE, &[&set])
        };
        assert_eq!(
            printable(&rdn(b"\x06\x03\x55\x04\x03\x1e\x04\x00A\x00B")),
            "CN=AB"
        );
        assert_eq!(printable(&rdn(b"\x06\x03\x55\x04\x03\x14\x01\xe4")), "CN=ä");
        assert_eq!(
            printable(&rdn(b"\x06\x03\x55\x04\x03\x0c\x02\x1bA")),
            "CN=\\1bA"
        );
        assert_eq!(
            printable(&rdn(b"\x06\x03\x55\x04\x05\x13\x01A")),
            "2.5.4.5=#130141"
        );
        assert_eq!(
            printable(&rdn(b"\x06\x03\x55\x04\x03\x0c\x01\xff")),
            "CN=#0c01ff"
        );
        // A SET must not be empty.
        assert!(text(b"\x31\x00").is_err());
    }
}
