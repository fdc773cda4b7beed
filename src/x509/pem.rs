//! PEM (RFC 7468), strict inside the blocks and bounded in size.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::name::printable;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// U+FEFF in UTF-8: at a file's start, and within it where files were joined.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    /// Of its BEGIN line, counted from one.
    pub(super) line: usize,
    body: &'a [u8],
}

impl Block<'_> {
    pub(super) fn der(&self) -> Result<Vec<u8>, PemError> {
        decode(self.body, self.label, self.line)
    }

    /// Whether it is encrypted as OpenSSL did before PKCS#8, which a header says (RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        const HEADER: &[u8] = b"Proc-Type: 4,ENCRYPTED";
        self.body.trim_ascii_start().starts_with(HEADER)
    }
}

pub(super) struct Blocks<'a> {
    pub(super) blocks: Vec<Block<'a>>,
    /// Whether anything other than white space is before, between or after the blocks.
    pub(super) other_text: bool,
}

/// One PEM block, in lines of 64 characters.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut out = String::with_capacity(base64.len() + base64.len() / 64 + label.len() * 2 + 40);
    out.extend([BEGIN, label, DASHES, "\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.extend([line, "\n"]);
        rest = after;
    }
    out.extend([END, label, DASHES, "\n"]);
    out
}

/// Whether a block begins anywhere in `pem`.
pub(super) fn has_block(pem: &[u8]) -> bool {
    find_begin(pem, 0).is_some()
}

/// Reads at most `limit` blocks of any label. What is between blocks may be in any encoding
/// (RFC 7468 §2); a block itself is ASCII.
pub(super) fn blocks(pem: &[u8], limit: usize) -> Result<Blocks<'_>, PemError> {
    let mut found = Blocks {
        blocks: Vec::new(),
        other_text: false,
    };
    let (mut at, mut line) = (0, 1);
    let part = |from: usize, to: usize| pem.get(from..to).unwrap_or_default();
    while let Some(begin) = find_begin(pem, at) {
        found.other_text |= !is_blank(part(at, begin));
        line += line_breaks(part(at, begin));
        let label_at = begin + BEGIN.len();
        let label_end = find(pem, label_at, DASHES).ok_or(PemError::BeginLine { line })?;
        let label = std::str::from_utf8(part(label_at, label_end))
            .ok()
            .filter(|label| !label.contains(['\n', '\r']))
            .ok_or(PemError::BeginLine { line })?;
        let unterminated = || PemError::Unterminated {
            label: printable(label),
            line,
        };
        let body = label_end + DASHES.len();
        let end = find(pem, body, END).ok_or_else(unterminated)?;
        let after = pem
            .get(end + END.len()..)
            .and_then(|rest| rest.strip_prefix(label.as_bytes()))
            .and_then(|rest| rest.strip_prefix(DASHES.as_bytes()))
            .ok_or_else(unterminated)?;
        if found.blocks.len() == limit {
            return Err(PemError::TooMany { limit });
        }
        found.blocks.push(Block {
            label,
            line,
            body: part(body, end),
        });
        at = pem.len() - after.len();
        line += line_breaks(part(begin, at));
    }
    found.other_text |= !is_blank(part(at, pem.len()));
    Ok(found)
}

/// The next BEGIN that is first in its line, or directly after an END, as where a file without a
/// last line break was joined to another. Others are text: a certificate that is commented out.
fn find_begin(pem: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let begin = find(pem, at, BEGIN)?;
        let before = pem.get(from..begin).unwrap_or_default();
        let start = before
            .iter()
            .rposition(|octet| matches!(octet, b'\n' | b'\r'))
            .map_or(0, |line_break| line_break + 1);
        if is_blank(before.get(start..).unwrap_or_default()) {
            return Some(begin);
        }
        let line = pem.get(begin..)?;
        at = begin + line.iter().position(|o| matches!(o, b'\n' | b'\r'))?;
    }
}

fn find(bytes: &[u8], from: usize, wanted: &str) -> Option<usize> {
    let wanted = wanted.as_bytes();
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let dash = rest.iter().position(|octet| *octet == b'-')?;
        if rest.get(dash..)?.starts_with(wanted) {
            return Some(at + dash);
        }
        at += dash + 1;
    }
}

fn is_blank(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => is_blank(rest),
        None => text.is_empty(),
    }
}

fn line_breaks(text: &[u8]) -> usize {
    text.iter().filter(|octet| **octet == b'\n').count()
}

fn decode(base64: &[u8], label: &str, line: usize) -> Result<Vec<u8>, PemError> {
    let space = |octet: &u8| matches!(octet, b'\n' | b'\r' | b' ' | b'\t');
    let packed: Vec<u8> = base64.iter().copied().filter(|o| !space(o)).collect();
    STANDARD.decode(&packed).map_err(|_| {
        // The first line of a header (RFC 1421) would be shown as a bad character otherwise.
        let stray = base64
            .iter()
            .position(|o| !space(o) && !o.is_ascii_alphanumeric() && !b"+/=".contains(o));
        PemError::Base64 {
            label: printable(label),
            line: line + stray.map_or(0, |at| line_breaks(base64.get(..at).unwrap_or_default())),
            stray: stray.and_then(|at| base64.get(at)).copied(),
        }
    })
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("the PEM has {bytes} bytes; at most {limit} are read")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the PEM has more than {limit} block(s)")]
    TooMany { limit: usize },
    #[error("the PEM has no {label} block (-----BEGIN {label}-----)")]
    NoBlock {
        /// The label that is wanted.
        label: &'static str,
    },
    #[error("line {line}: a PEM block's first line does not end with -----")]
    BeginLine {
        /// Counted from one.
        line: usize,
    },
    #[error(
        "line {line}: the PEM block \"{label}\" has no matching -----END line; is the file cut off?"
    )]
    Unterminated {
        label: String,
        /// Of its BEGIN line.
        line: usize,
    },
    #[error(
        "line {line}: the PEM block \"{label}\" is not base64 (RFC 4648 §4, padded, no headers){}",
        stray.map_or(String::new(), |octet| format!(": it holds {}", shown(octet)))
    )]
    Base64 {
        label: String,
        /// Of the octet, or else of its BEGIN line.
        line: usize,
        /// The first octet that base64 does not have.
        stray: Option<u8>,
    },
    #[error("the PEM has a block \"{found}\"; only {wanted} is allowed")]
    Label {
        found: String,
        /// The label that is wanted.
        wanted: &'static str,
    },
    #[error("the PEM has text before or after the block; send the block alone")]
    OtherText,
}

fn shown(octet: u8) -> String {
    match octet {
        b'!'..=b'~' => format!("`{}`", char::from(octet)),
        other => format!("the octet {other:02x}"),
    }
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
    fn writes_what_it_reads() {
        for length in [0, 1, 47, 48, 49, 96, 1000] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let pem = to_pem("X", &der);
            assert!(pem.lines().all(|line| line.len() <= 64));
            let read = blocks(pem.as_bytes(), 1).unwrap();
            assert_eq!(read.blocks[0].label, "X");
            assert_eq!(read.blocks[0].der().unwrap(), der);
            assert!(!read.other_text);
            let crlf = pem.replace('\n', "\r\n");
            assert_eq!(
                blocks(crlf.as_bytes(), 1).unwrap().blocks[0].der().unwrap(),
                der
            );
        }
    }
}
