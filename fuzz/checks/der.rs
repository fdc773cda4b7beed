//! Enough of DER to split a structure and sign it again, so that the code behind a signature is
//! reached. Only lengths are read.

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

/// A key whose private half is public.
pub(crate) static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed is a key"));

const SEQUENCE: u8 = 0x30;
const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";

/// The first element of `bytes`: its tag, contents, and the bytes after it.
pub(crate) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = octets
                .iter()
                .fold(0, |length, octet| length << 8 | usize::from(*octet));
            (length, rest)
        }
        _ => return None,
    };
    let (contents, after) = rest.split_at_checked(length)?;
    Some((*tag, contents, after))
}

pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length => {
            let octets = length.to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            out.push(0x80 | (octets.len() - zeros) as u8);
            out.extend(octets.iter().skip(zeros));
        }
    }
    out.extend(contents);
    out
}

/// The CSR in `der` with [`KEY`] as its key, signed with it; and its original SubjectPublicKeyInfo.
pub(crate) fn signed_with_known_key(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, request, _) = element(der)?;
    let (_, info, _) = element(request)?;
    let (_, _, after_version) = element(info)?;
    let (_, _, after_subject) = element(after_version)?;
    let (tag, key, attributes) = element(after_subject)?;
    let head = info.get(..info.len() - after_subject.len())?;
    let bits = tlv(0x03, &[&[0], KEY.public_key().as_ref()]);
    let info = tlv(
        SEQUENCE,
        &[head, &tlv(SEQUENCE, &[ED25519, &bits]), attributes],
    );
    let signature = tlv(0x03, &[&[0], KEY.sign(&info).as_ref()]);
    let signed = tlv(SEQUENCE, &[&info, ED25519, &signature]);
    Some((signed, tlv(tag, &[key])))
}

/// The bytes of the first PEM block in `input`, or `input` itself without one.
pub(crate) fn der_of(input: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let inside = std::str::from_utf8(input).ok().and_then(|text| {
        let (_, block) = text.split_once("-----BEGIN ")?;
        let (_, body) = block.split_once("-----")?;
        let (base64, _) = body.split_once("-----END")?;
        let packed: String = base64.split_ascii_whitespace().collect();
        base64::engine::general_purpose::STANDARD
            .decode(packed)
            .ok()
    });
    inside.unwrap_or_else(|| input.to_vec())
}
