//! SHA-256, SHA-1 for identifiers, and hexadecimal text for digests and identifiers.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// The SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = digest(&SHA256, bytes);
    out.iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    out
}

/// The SHA-1 digest of `bytes`, for identifiers that others compute so: it protects nothing.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    out.iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    out
}

/// Lower-case hexadecimal, two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text: two digits for each, in either case, and nothing else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_is_digits_alone() {
        assert_eq!(from_hex("00fFa5"), Some(vec![0, 255, 0xa5]));
        assert_eq!(from_hex(&hex(&[1, 2, 3])), Some(vec![1, 2, 3]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for wrong in ["0", "000", "+f", "-1", " 1", "0x", "gg", "é", "0é0"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_known() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&sha256(b"")), expected);
    }
}
