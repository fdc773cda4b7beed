//! SPIFFE names (SPIFFE-ID §2): trust domains and SPIFFE IDs.

mod dns;
mod error;
mod linkerd;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use dns::DnsName;
pub use error::NameError;
pub(super) use error::printable;
pub use linkerd::{LinkerdMesh, LinkerdName};

/// In bytes (SPIFFE-ID §2.3).
const TRUST_DOMAIN_MAX: usize = 255;
/// In bytes (SPIFFE-ID §2.3).
const SPIFFE_ID_MAX: usize = 2048;
const SCHEME: &str = "spiffe://";

/// A trust domain name: lower-case letters, digits, `.`, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Parses a bare trust domain name, such as `cluster.local`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A SPIFFE ID: `spiffe://`, a trust domain, and a path that may be empty.
///
/// An ID without a path is the trust domain itself, for which no leaf is issued (X509-SVID §4.1).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Box<str>,
    // A value, so that `trust_domain` can return a reference.
    domain: TrustDomain,
}

impl SpiffeId {
    /// Parses a SPIFFE ID, such as `spiffe://cluster.local/ns/foo/sa/bar`, by the rules of
    /// SPIFFE-ID §2.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > SPIFFE_ID_MAX {
            return Err(NameError::SpiffeIdTooLong { length: text.len() });
        }
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(NameError::Scheme {
                name: printable(text),
            });
        };
        let (domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let domain = TrustDomain::parse(domain)?;
        if let Some(segments) = path.strip_prefix('/') {
            segments
                .split('/')
                .try_for_each(|segment| check_segment(segment, text))?;
        }
        Ok(Self {
            text: text.into(),
            domain,
        })
    }

    /// `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, the identity of a Kubernetes service account.
    ///
    /// # Errors
    /// [`NameError`] when the namespace is not a DNS-1123 label or the account not a DNS-1123
    /// subdomain, as Kubernetes requires. So neither contains a `/`.
    pub fn service_account(
        domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> Result<Self, NameError> {
        if !is_dns_label(namespace.as_bytes()) {
            return Err(NameError::Namespace {
                name: printable(namespace),
            });
        }
        if account.len() > 253
            || !account
                .as_bytes()
                .split(|byte| *byte == b'.')
                .all(is_dns_label)
        {
            return Err(NameError::Account {
                name: printable(account),
            });
        }
        Self::parse(&format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}"))
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path with its leading slash; empty for the trust domain itself.
    pub fn path(&self) -> &str {
        self.text
            .get(SCHEME.len() + self.domain.0.len()..)
            .unwrap_or_default()
    }

    /// Namespace and name, if [`SpiffeId::service_account`] gives exactly this ID.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        let made = Self::service_account(&self.domain, namespace, account).ok()?;
        (made == *self).then_some((namespace, account))
    }

    pub fn in_domain(&self, domain: &TrustDomain) -> bool {
        self.domain == *domain
    }
}

fn check_trust_domain(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::TrustDomainEmpty);
    }
    if text.len() > TRUST_DOMAIN_MAX {
        return Err(NameError::TrustDomainTooLong { length: text.len() });
    }
    let invalid = text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'));
    match invalid {
        Some(invalid) => Err(NameError::TrustDomainCharacter {
            name: printable(text),
            invalid,
        }),
        None => Ok(()),
    }
}

fn check_segment(segment: &str, whole: &str) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::EmptySegment {
            name: printable(whole),
        });
    }
    if segment == "." || segment == ".." {
        return Err(NameError::RelativeSegment {
            name: printable(whole),
        });
    }
    let invalid = segment
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_'));
    match invalid {
        Some(invalid) => Err(NameError::PathCharacter {
            name: printable(whole),
            invalid,
        }),
        None => Ok(()),
    }
}

/// RFC 1123 label as Kubernetes defines it: 1 to 63 of `[a-z0-9-]`, no hyphen at either end.
fn is_dns_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && label
            .iter()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

macro_rules! text_form {
    ($type:ty, $field:tt) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.$field.into()
            }
        }
    };
}
text_form!(TrustDomain, 0);
text_form!(SpiffeId, text);

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
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
    fn reads_the_parts_of_a_spiffe_id() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/foo/sa/Bar_1.x").unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.path(), "/ns/foo/sa/Bar_1.x");
        assert!(id.in_domain(&TrustDomain::parse("cluster.local").unwrap()));
        assert!(!id.in_domain(&TrustDomain::parse("cluster.loca").unwrap()));
        assert_eq!(SpiffeId::parse("spiffe://td").unwrap().path(), "");
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
        for (text, part) in [
            ("", "must start with spiffe://"),
            ("http://td/a", "must start with spiffe://"),
            ("SPIFFE://td/a", "must start with spiffe://"),
            ("spiffe:/td/a", "must start with spiffe://"),
            ("spiffe://", "is empty"),
            ("spiffe:///a", "is empty"),
            ("spiffe://Td/a", "'T'"),
            ("spiffe://td:8080/a", "':'"),
            ("spiffe://user@td/a", "'@'"),
            ("spiffe://td?q", "'?'"),
            ("spiffe://td#f", "'#'"),
            ("spiffe://t%20d/a", "'%'"),
            ("spiffe://td/", "empty path segment"),
            ("spiffe://td/a/", "empty path segment"),
            ("spiffe://td//a", "empty path segment"),
            ("spiffe://td/.", "relative"),
            ("spiffe://td/a/../b", "relative"),
            ("spiffe://td/a?q=1", "'?'"),
            ("spiffe://td/a#f", "'#'"),
            ("spiffe://td/%41", "'%'"),
            ("spiffe://td/a*", "'*'"),
            ("spiffe://a,evil.example,b/ns/x/sa/y", "','"),
            ("spiffe://td/a+b", "'+'"),
            ("spiffe://td/a,b", "','"),
            ("spiffe://td/a\0b", "'\\0'"),
            ("spiffe://td/ä", "'ä'"),
            ("spiffe://td/a\\b", "'\\\\'"),
        ] {
            let error = SpiffeId::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn keeps_the_lengths_of_the_specification() {
        let longest = format!("spiffe://td/{}", "a".repeat(SPIFFE_ID_MAX - 12));
        assert!(SpiffeId::parse(&longest).is_ok());
        assert!(SpiffeId::parse(&format!("{longest}a")).is_err());
        assert!(TrustDomain::parse(&"a".repeat(255)).is_ok());
        assert!(TrustDomain::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_service_accounts_parts_are_those_it_was_made_of() {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let cart = id("spiffe://td/ns/shop/sa/cart.v1");
        assert_eq!(cart.as_service_account(), Some(("shop", "cart.v1")));
        for other in [
            "spiffe://td",
            "spiffe://td/ns/shop/sa",
            "spiffe://td/ns/shop/sa/a/b",
            "spiffe://td/ns/a/b/sa/c",
            "spiffe://td/ns/sa/sa/sa/sa",
            "spiffe://td/ns/Shop/sa/cart",
            "spiffe://td/x/ns/shop/sa/cart",
            "spiffe://td/ns/shop/sa/_cart",
        ] {
            assert_eq!(id(other).as_service_account(), None, "{other}");
        }
    }

    #[test]
    fn a_service_account_cannot_step_out_of_its_namespace() {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let id = SpiffeId::service_account(&domain, "foo", "bar.v1").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/foo/sa/bar.v1");
        for (namespace, account) in [
            ("foo/sa/admin", "x"),
            ("", "x"),
            ("foo", ""),
            ("foo", "a/b"),
            ("foo", "../x"),
            ("Foo", "x"),
            ("foo.bar", "x"),
            ("foo", "-x"),
            ("foo", "x."),
            ("foo", "a,b"),
            ("*", "x"),
            ("foo", "*"),
            ("foo\0", "x"),
        ] {
            assert!(SpiffeId::service_account(&domain, namespace, account).is_err());
        }
        assert!(SpiffeId::service_account(&domain, &"a".repeat(64), "x").is_err());
    }

    #[test]
    fn an_error_shows_a_hostile_name_escaped_and_cut() {
        let error = SpiffeId::parse(&format!("\x1b[31m{}", "x".repeat(1000))).unwrap_err();
        let text = error.to_string();
        assert!(!text.contains('\x1b') && text.len() < 300, "{text}");
    }

    #[test]
    fn serde_parses_rather_than_copies() {
        assert!(serde_json::from_str::<TrustDomain>("\"a.b\"").is_ok());
        assert!(serde_json::from_str::<TrustDomain>("\"A.b\"").is_err());
        assert!(serde_json::from_str::<SpiffeId>("\"spiffe://td/a/\"").is_err());
    }
}
