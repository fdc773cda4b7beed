//! DNS host names.

use std::fmt;
use std::str::FromStr;

use super::error::{NameError, printable};

/// A DNS host name in lower case: no wildcard, no trailing dot, no IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Box<str>);

impl DnsName {
    /// Parses a host name; upper-case letters become lower case, because DNS ignores case.
    ///
    /// # Errors
    /// [`NameError::Dns`] when it is not 1 to 253 bytes of labels of `[A-Za-z0-9-]`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match dns_fault(text) {
            Some(why) => Err(NameError::Dns {
                name: printable(text),
                why,
            }),
            None => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn dns_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 253 {
        return Some("it must have 1 to 253 characters");
    }
    let mut last = "";
    for label in text.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() || bytes.len() > 63 {
            return Some("a label must have 1 to 63 characters");
        }
        if !bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        {
            return Some("a label contains another character");
        }
        if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
            return Some("a label starts or ends with '-'");
        }
        last = label;
    }
    // RFC 1123 §2.1: the last label is never all digits, so no IP address is a valid name.
    last.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some("its last label is a number")
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dns_name_never_widens() {
        for text in [
            "*",
            "*.example",
            "a.*.example",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a,b.c",
            "a b",
            "a\0.b",
            "10.0.0.1",
            "1",
            "xn--ä",
            "a/b",
            "",
        ] {
            assert!(DnsName::parse(text).is_err(), "{text:?}");
        }
        assert!(DnsName::parse(&"a".repeat(64)).is_err());
        assert!(DnsName::parse(&["a"; 128].join(".")).is_err());
        for text in [
            "localhost",
            "a.b-c.example",
            "1.example",
            "xn--bcher-kva.example",
        ] {
            assert!(DnsName::parse(text).is_ok(), "{text:?}");
        }
    }
}
