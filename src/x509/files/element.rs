//! Elements of BER: PKCS#7 is often written with indefinite lengths (X.690 §8.1.3.6), which DER
//! forbids.

/// How deep elements of indefinite length may be nested.
const MAX_DEPTH: usize = 16;

/// An element's identifier octet and its contents. Only tags of one octet are read.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
}

/// The first element of `bytes` with its header, which is a SEQUENCE, and what follows.
pub(super) fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    let (tag, _, length) = parse(bytes, 0)?;
    bytes.split_at_checked(length).filter(|_| tag == SEQUENCE)
}

/// The first element of `bytes`, and what follows.
pub(super) fn next(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, contents, length) = parse(bytes, 0)?;
    Some((Element { tag, contents }, bytes.get(length..)?))
}

/// The elements of a constructed element's contents, as far as they can be read.
pub(super) fn each(contents: &[u8]) -> impl Iterator<Item = (Element<'_>, &[u8])> {
    let mut rest = contents;
    std::iter::from_fn(move || {
        let (element, after) = next(rest)?;
        let whole = rest.get(..rest.len() - after.len())?;
        rest = after;
        Some((element, whole))
    })
}

/// Tag, contents and the length of the whole.
fn parse(bytes: &[u8], depth: usize) -> Option<(u8, &[u8], usize)> {
    let (tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let length = match first {
        0x80 => return indefinite(*tag, bytes, depth),
        0x81..=0x84 => {
            let (octets, _) = rest.split_at_checked(usize::from(first & 0x7f))?;
            octets
                .iter()
                .fold(0_usize, |length, octet| length << 8 | usize::from(*octet))
        }
        0..=0x7f => usize::from(*first),
        _ => return None,
    };
    let header = 2 + if *first > 0x80 {
        usize::from(first & 0x7f)
    } else {
        0
    };
    let end = header.checked_add(length)?;
    Some((*tag, bytes.get(header..end)?, end))
}

/// Contents that two zero octets end.
fn indefinite(tag: u8, bytes: &[u8], depth: usize) -> Option<(u8, &[u8], usize)> {
    const HEADER: usize = 2;
    if tag & 0x20 == 0 || depth == MAX_DEPTH {
        return None;
    }
    let mut at = HEADER;
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(&[0, 0]) {
            return Some((tag, bytes.get(HEADER..at)?, at + 2));
        }
        let (_, _, length) = parse(rest, depth + 1)?;
        at += length;
    }
}
