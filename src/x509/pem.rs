//! PEM (RFC 7468), strict inside the blocks and bounded in size.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::name::printable;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    pub(super) der: Vec<u8>,
}

pub(super) struct Blocks<'a> {
    pub(super) blocks: Vec<Block<'a>>,
    /// Whether any text other than white space is before, between or after the blocks.
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

/// Reads at most `limit` blocks of any label.
pub(super) fn blocks(pem: &[u8], limit: usize) -> Result<Blocks<'_>, PemError> {
    let text = std::str::from_utf8(pem).map_err(|_| PemError::NotText)?;
    let mut found = Blocks {
        blocks: Vec::new(),
        other_text: false,
    };
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let (before, at) = rest.split_at(begin);
        found.other_text |= !before.trim_ascii().is_empty();
        let after = at.strip_prefix(BEGIN).unwrap_or(at);
        let (label, body) = after.split_once(DASHES).ok_or(PemError::BeginLine)?;
        if label.contains(['\n', '\r']) {
            return Err(PemError::BeginLine);
        }
        let (base64, tail) = body.split_once(END).ok_or_else(|| PemError::Unterminated {
            label: printable(label),
        })?;
        rest = tail
            .strip_prefix(label)
            .and_then(|tail| tail.strip_prefix(DASHES))
            .ok_or_else(|| PemError::Unterminated {
                label: printable(label),
            })?;
        if found.blocks.len() == limit {
            return Err(PemError::TooMany { limit });
        }
        found.blocks.push(Block {
            label,
            der: decode(base64, label)?,
        });
    }
    found.other_text |= !rest.trim_ascii().is_empty();
    Ok(found)
}

fn decode(base64: &str, label: &str) -> Result<Vec<u8>, PemError> {
    let space = |c: char| matches!(c, '\n' | '\r' | ' ' | '\t');
    let packed: Cow<'_, str> = if base64.contains(space) {
        base64.split(space).collect::<String>().into()
    } else {
        base64.into()
    };
    STANDARD
        .decode(packed.as_bytes())
        .map_err(|_| PemError::Base64 {
            label: printable(label),
        })
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("the PEM is not text; DER must be converted first (openssl … -inform DER)")]
    NotText,
    #[error("the PEM has {bytes} bytes; at most {limit} are read")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the PEM has more than {limit} block(s)")]
    TooMany { limit: usize },
    #[error("the PEM has no {label} block (-----BEGIN {label}-----)")]
    NoBlock {
        /// The label that is wanted.
        label: &'static str,
    },
    #[error("a PEM block's first line does not end with -----")]
    BeginLine,
    #[error("the PEM block \"{label}\" has no matching -----END line")]
    Unterminated { label: String },
    #[error("the PEM block \"{label}\" is not base64 (RFC 4648 §4, padded, no headers)")]
    Base64 { label: String },
    #[error("the PEM has a block \"{found}\"; only {wanted} is allowed")]
    Label {
        found: String,
        /// The label that is wanted.
        wanted: &'static str,
    },
    #[error("the PEM has text before or after the block; send the block alone")]
    OtherText,
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
            assert_eq!((read.blocks[0].label, &read.blocks[0].der), ("X", &der));
            assert!(!read.other_text);
            let crlf = pem.replace('\n', "\r\n");
            assert_eq!(blocks(crlf.as_bytes(), 1).unwrap().blocks[0].der, der);
        }
    }
}
