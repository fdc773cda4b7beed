//! Encodings of text around PEM.

use std::borrow::Cow;

/// UTF-16, as PowerShell and Windows editors write it, as UTF-8; anything else as it is.
pub(super) fn decode(file: &[u8]) -> Cow<'_, [u8]> {
    let decoded = match file {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Without a mark: text begins with ASCII, and no DER value begins so.
        [0, low, 0, _, ..] if low.is_ascii_graphic() => utf16(file, u16::from_be_bytes),
        [low, 0, _, 0, ..] if low.is_ascii_graphic() => utf16(file, u16::from_le_bytes),
        _ => return Cow::Borrowed(file),
    };
    Cow::Owned(decoded)
}

fn utf16(octets: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = octets
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok())
        .map(unit);
    char::decode_utf16(units)
        .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect::<String>()
        .into_bytes()
}
