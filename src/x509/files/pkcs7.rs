//! The certificates of a PKCS#7 SignedData (RFC 5652 §5.1): a `.p7b`, or a CA's full response.

use super::element::{self, Element};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
pub(super) const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

/// The certificates in DER, in the file's order. Attribute certificates and CRLs are left out.
pub(super) fn certificates(content_info: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let (info, _) = element::next(content_info).ok_or("it is cut off")?;
    let rest = expect(info.contents, OBJECT_IDENTIFIER)?.1;
    let (explicit, _) = expect(rest, CONTEXT_0)?;
    let (signed, _) = expect(explicit.contents, SEQUENCE)?;
    let (_, rest) = expect(signed.contents, INTEGER)?;
    let (_, rest) = expect(rest, SET)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    match element::next(rest) {
        Some((
            Element {
                tag: CONTEXT_0,
                contents,
            },
            _,
        )) => Ok(element::each(contents)
            .filter(|(element, _)| element.tag == SEQUENCE)
            .map(|(_, whole)| whole)
            .collect()),
        _ => Ok(Vec::new()),
    }
}

fn expect(bytes: &[u8], tag: u8) -> Result<(Element<'_>, &[u8]), &'static str> {
    match element::next(bytes) {
        Some((element, rest)) if element.tag == tag => Ok((element, rest)),
        Some(_) => Err("its structure is not that of SignedData (RFC 5652 §5.1)"),
        None => Err("it is cut off"),
    }
}
