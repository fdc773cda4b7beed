//! nameConstraints (RFC 5280 §4.2.1.10): which names a CA's certificates may have.

use std::net::IpAddr;

use der::{Tag, Tagged as _};

use super::read::{self, DerReader, Malformed};
use super::san::San;

const WHAT: &str = "nameConstraints extension";

/// The subtrees that matter for the names that are issued here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NameConstraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subtrees {
    dns: Vec<String>,
    /// Address, then mask.
    ip: Vec<Vec<u8>>,
    uri: Vec<String>,
    email: Vec<String>,
    directory: bool,
    /// Whether there are other kinds still.
    other: bool,
}

impl NameConstraints {
    pub(super) fn from_der(value: &[u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut kinds = DerReader::within(value, Tag::Sequence, WHAT)?;
        if kinds.is_empty() {
            return Err(Malformed::new(WHAT, "it is empty"));
        }
        while !kinds.is_empty() {
            let list = kinds.any()?;
            let subtrees = if list.tag() == read::context(0, true) {
                &mut found.permitted
            } else if list.tag() == read::context(1, true) {
                &mut found.excluded
            } else {
                return Err(Malformed::new(
                    WHAT,
                    "it has another field than its two lists",
                ));
            };
            subtrees.read(list.value())?;
        }
        Ok(found)
    }

    pub(super) fn constrains_uris(&self) -> bool {
        !self.permitted.uri.is_empty() || !self.excluded.uri.is_empty()
    }

    pub(super) fn has_kinds_unknown_to_go(&self) -> bool {
        let unknown = |subtrees: &Subtrees| subtrees.directory || subtrees.other;
        unknown(&self.permitted) || unknown(&self.excluded)
    }

    pub(super) fn constrains_directory_names(&self) -> bool {
        self.permitted.directory || self.excluded.directory
    }

    /// What Go's parser refuses in the values.
    pub(super) fn go_problem(&self) -> Option<String> {
        let all = || [&self.permitted, &self.excluded].into_iter();
        let bad_domain = all()
            .flat_map(|each| each.dns.iter().chain(&each.uri))
            .find(|domain| !is_domain(domain));
        if let Some(domain) = bad_domain {
            return Some(format!(
                "the name constraint `{}` is no domain",
                domain.escape_debug()
            ));
        }
        all()
            .flat_map(|each| &each.ip)
            .any(|ip| !matches!(ip.len(), 8 | 32) || !is_mask(ip.split_at(ip.len() / 2).1))
            .then(|| "an IP name constraint is not an address and a mask".into())
    }

    /// Why a certificate below may not have `name`.
    pub(super) fn refusal(&self, name: &San) -> Option<String> {
        if let Some(subtree) = self.excluded.matching(name) {
            return Some(format!("it excludes {subtree}"));
        }
        let permitted = self.permitted.of_kind(name);
        if permitted.is_empty() || self.permitted.matching(name).is_some() {
            return None;
        }
        Some(format!("it permits only {}", permitted.join(", ")))
    }
}

impl Subtrees {
    fn read(&mut self, list: &[u8]) -> Result<(), Malformed> {
        let mut list = DerReader::new(list, WHAT)?;
        while !list.is_empty() {
            let mut subtree = DerReader::new(list.expect(Tag::Sequence)?, WHAT)?;
            let base = subtree.any()?;
            let Tag::ContextSpecific { number, .. } = base.tag() else {
                return Err(Malformed::new(WHAT, "a subtree has no name"));
            };
            let text = || String::from_utf8_lossy(base.value()).into_owned();
            match number.value() {
                1 => self.email.push(text()),
                2 => self.dns.push(text()),
                6 => self.uri.push(text()),
                7 => self.ip.push(base.value().to_vec()),
                4 => self.directory = true,
                _ => self.other = true,
            }
        }
        Ok(())
    }

    /// The subtree that holds `name`, as text.
    fn matching(&self, name: &San) -> Option<String> {
        match name {
            San::Dns(name) => {
                let mut subtrees = self.dns.iter();
                let subtree = subtrees.find(|subtree| is_within(name.as_str(), subtree));
                subtree.map(|subtree| format!("`{subtree}`"))
            }
            San::Ip(address) => {
                let mut subtrees = self.ip.iter();
                let subtree = subtrees.find(|subtree| contains(subtree, *address));
                subtree.map(|subtree| ip_text(subtree))
            }
            // rustls refuses every name where URIs are constrained, and import refuses the CA.
            San::Spiffe(_) => self.uri.first().map(|subtree| format!("`{subtree}`")),
        }
    }

    fn of_kind(&self, name: &San) -> Vec<String> {
        match name {
            San::Dns(_) => self.dns.iter().map(|each| format!("`{each}`")).collect(),
            San::Ip(_) => self.ip.iter().map(|each| ip_text(each)).collect(),
            San::Spiffe(_) => self.uri.iter().map(|each| format!("`{each}`")).collect(),
        }
    }
}

/// A leading dot demands a label more; without it the domain itself is included. The empty subtree
/// holds every name.
fn is_within(name: &str, subtree: &str) -> bool {
    let (name, subtree) = (name.to_ascii_lowercase(), subtree.to_ascii_lowercase());
    if subtree.is_empty() || name == subtree {
        return true;
    }
    let below = match subtree.strip_prefix('.') {
        Some(_) => subtree.clone(),
        None => format!(".{subtree}"),
    };
    name.len() > below.len() && name.ends_with(&below)
}

fn contains(subtree: &[u8], address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (base, mask) = subtree.split_at(subtree.len() / 2);
    base.len() == octets.len()
        && base
            .iter()
            .zip(mask)
            .zip(&octets)
            .all(|((base, mask), octet)| base & mask == octet & mask)
}

fn ip_text(subtree: &[u8]) -> String {
    let (base, mask) = subtree.split_at(subtree.len() / 2);
    let bits: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
    let address = <[u8; 4]>::try_from(base)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(base).map(IpAddr::from));
    address.map_or_else(|_| "an invalid address".into(), |it| format!("{it}/{bits}"))
}

fn is_mask(mask: &[u8]) -> bool {
    let ones = mask.iter().map(|octet| octet.count_ones()).sum::<u32>();
    let leading: u32 = mask
        .iter()
        .scan(true, |open, octet| {
            let count = if *open { octet.leading_ones() } else { 0 };
            *open &= *octet == 0xff;
            Some(count)
        })
        .sum();
    ones == leading
}

/// As Go's `domainNameValid` reads a constraint: labels of printable ASCII, a leading dot allowed.
fn is_domain(text: &str) -> bool {
    let labels = text.strip_prefix('.').unwrap_or(text);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_graphic());
    text.is_empty() || labels.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::write::element;
    use super::*;

    fn subtree(kind: u8, base: &[u8]) -> Vec<u8> {
        element(0x30, &[&element(0x80 | kind, &[base])])
    }

    fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> NameConstraints {
        let list = |tag, subtrees: &[Vec<u8>]| match subtrees {
            [] => Vec::new(),
            subtrees => element(tag, &[&subtrees.concat()]),
        };
        let lists = [list(0xa0, permitted), list(0xa1, excluded)].concat();
        NameConstraints::from_der(&element(0x30, &[&lists])).unwrap()
    }

    #[test]
    fn names_are_compared_with_the_subtrees_of_their_kind() {
        let both = constraints(
            &[
                subtree(2, b"corp.example"),
                subtree(2, b".only.below"),
                subtree(7, &[10, 1, 0, 0, 255, 255, 0, 0]),
            ],
            &[subtree(2, b"secret.corp.example")],
        );
        for (name, permitted) in [
            ("dns:corp.example", true),
            ("dns:a.b.corp.example", true),
            ("dns:xcorp.example", false),
            ("dns:example", false),
            ("dns:only.below", false),
            ("dns:a.only.below", true),
            ("dns:secret.corp.example", false),
            ("dns:a.secret.corp.example", false),
            ("ip:10.1.2.3", true),
            ("ip:10.2.2.3", false),
            ("ip:::1", false),
            // URIs are not constrained.
            ("spiffe://cluster.local/a", true),
        ] {
            let refusal = both.refusal(&name.parse().unwrap());
            assert_eq!(refusal.is_none(), permitted, "{name}: {refusal:?}");
        }
        let text = both.refusal(&"ip:10.2.2.3".parse().unwrap()).unwrap();
        assert_eq!(text, "it permits only 10.1.0.0/16");
        let text = both.refusal(&"dns:secret.corp.example".parse().unwrap());
        assert_eq!(text.unwrap(), "it excludes `secret.corp.example`");
        let only_excluded = constraints(&[], &[subtree(2, b"")]);
        assert!(
            only_excluded
                .refusal(&"dns:a.example".parse().unwrap())
                .is_some()
        );
        assert_eq!(only_excluded.refusal(&"ip:10.1.2.3".parse().unwrap()), None);
    }

    #[test]
    fn values_that_go_refuses() {
        for (kind, base, refused) in [
            (2, &b"a.example"[..], false),
            (2, b".a.example", false),
            (2, b"", false),
            (2, b"a..example", true),
            (2, b"a.example.", true),
            (2, b"a b", true),
            (7, &[10, 0, 0, 0, 255, 0, 0, 0], false),
            (7, &[10, 0, 0, 0, 255, 0, 255, 0], true),
            (7, &[10, 0, 0, 0], true),
        ] {
            let found = constraints(&[subtree(kind, base)], &[]).go_problem();
            assert_eq!(
                found.is_some(),
                refused,
                "{}: {found:?}",
                base.escape_ascii()
            );
        }
        assert!(NameConstraints::from_der(b"\x30\x00").is_err());
    }
}
