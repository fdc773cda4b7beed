//! Names in a subjectAltName (RFC 5280 §4.2.1.6).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use der::asn1::AnyRef;
use der::{Tag, Tagged};

use super::name::{DnsName, LinkerdName, NameError, SpiffeId, printable};
use super::write;

/// The identifier octets of the GeneralNames that are issued, IMPLICIT and primitive.
const TAG_DNS: u8 = 0x82;
const TAG_URI: u8 = 0x86;
const TAG_IP: u8 = 0x87;

/// A name of a kind that is certified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A URI.
    Spiffe(SpiffeId),
    Dns(DnsName),
    Ip(IpAddr),
}

impl San {
    /// Reads a GeneralName; `None` for a kind that is never certified.
    pub(super) fn from_general_name(name: AnyRef<'_>) -> Option<Result<Self, NameError>> {
        let Tag::ContextSpecific {
            constructed: false,
            number,
        } = name.tag()
        else {
            return None;
        };
        match number.value() {
            6 => Some(
                ia5(name.value())
                    .and_then(SpiffeId::parse)
                    .map(Self::Spiffe),
            ),
            2 => Some(ia5(name.value()).and_then(DnsName::parse).map(Self::Dns)),
            7 => Some(ip(name.value()).map(Self::Ip)),
            _ => None,
        }
    }

    fn write_general_name(&self, out: &mut Vec<u8>) {
        match self {
            Self::Spiffe(id) => write::tlv(out, TAG_URI, &[id.as_str().as_bytes()]),
            Self::Dns(name) => write::tlv(out, TAG_DNS, &[name.as_str().as_bytes()]),
            Self::Ip(IpAddr::V4(address)) => write::tlv(out, TAG_IP, &[&address.octets()]),
            Self::Ip(IpAddr::V6(address)) => write::tlv(out, TAG_IP, &[&address.octets()]),
        }
    }
}

pub(super) fn general_names(out: &mut Vec<u8>, names: &[San]) {
    let mut inner = Vec::with_capacity(names.len() * 64);
    names
        .iter()
        .for_each(|name| name.write_general_name(&mut inner));
    write::tlv(out, write::SEQUENCE, &[&inner]);
}

fn ia5(value: &[u8]) -> Result<&str, NameError> {
    // All later rules are on ASCII; this keeps invalid bytes out of the messages.
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| NameError::Kind {
            name: printable(&String::from_utf8_lossy(value)),
        })
}

fn ip(value: &[u8]) -> Result<IpAddr, NameError> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Ok(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    match <[u8; 16]>::try_from(value) {
        Ok(octets) => Ok(IpAddr::V6(Ipv6Addr::from(octets))),
        Err(_) => Err(NameError::Ip {
            name: format!("{} octets", value.len()),
        }),
    }
}

impl fmt::Display for San {
    /// `spiffe://…`, `dns:…` or `ip:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Ip(address) => write!(f, "ip:{address}"),
        }
    }
}

impl FromStr for San {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.starts_with("spiffe:") {
            return SpiffeId::parse(text).map(Self::Spiffe);
        }
        if let Some(name) = text.strip_prefix("dns:") {
            return DnsName::parse(name).map(Self::Dns);
        }
        let Some(address) = text.strip_prefix("ip:") else {
            return Err(NameError::Kind {
                name: printable(text),
            });
        };
        address.parse().map(Self::Ip).map_err(|_| NameError::Ip {
            name: printable(address),
        })
    }
}

impl From<LinkerdName> for San {
    fn from(name: LinkerdName) -> Self {
        Self::Dns(name.into())
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
    fn a_linkerd_name_is_a_dns_name() {
        let domain = "cluster.local".parse().unwrap();
        let mesh = crate::x509::LinkerdMesh::new("linkerd", &domain).unwrap();
        let name = mesh.workload("shop", "cart").unwrap();
        let text = format!("dns:{name}");
        assert_eq!(San::from(name).to_string(), text);
    }

    #[test]
    fn names_go_to_text_and_back() {
        for text in [
            "spiffe://td/a",
            "dns:a.example",
            "ip:10.0.0.1",
            "ip:2001:db8::1",
        ] {
            assert_eq!(text.parse::<San>().unwrap().to_string(), text);
        }
        assert_eq!(
            "dns:A.Example".parse::<San>().unwrap().to_string(),
            "dns:a.example"
        );
        for text in [
            "",
            "a.example",
            "uri:spiffe://td/a",
            "ip:10.0.0.1/8",
            "ip:x",
            "email:a@b",
        ] {
            assert!(text.parse::<San>().is_err(), "{text}");
        }
    }

    #[test]
    fn general_names_are_read_strictly() {
        let read = |tag: u8, value: &[u8]| {
            let der = write::element(tag, &[value]);
            San::from_general_name(der::Decode::from_der(&der).unwrap())
        };
        assert!(read(TAG_URI, b"spiffe://td/a").unwrap().is_ok());
        assert!(read(TAG_URI, b"https://td/a").unwrap().is_err());
        assert!(read(TAG_URI, b"spiffe://td/a\0").unwrap().is_err());
        assert!(read(TAG_URI, b"spiffe://td/\xff").unwrap().is_err());
        assert!(read(TAG_IP, &[10, 0, 0, 1, 255, 0, 0, 0]).unwrap().is_err());
        assert!(read(0x81, b"a@b").is_none());
        assert!(read(0xa0, b"").is_none());
    }
}
