//! The source of a connection, by which connections and memory are counted.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// One IPv4 address, or one IPv6 network of 64 bits: a host chooses the other 64 as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Source {
    address: IpAddr,
    /// Many clients behind one address: only the limits of the whole listener apply.
    pub(super) is_shared: bool,
}

impl Source {
    pub(super) fn new(address: IpAddr, shared: &[IpNet]) -> Self {
        let address = address.to_canonical();
        let is_shared = shared.iter().any(|net| net.contains(&address));
        let address = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Ipv6Addr::from_bits(network).into()
            }
        };
        Self { address, is_shared }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_is_one_source() {
        let of = |text: &str| Source::new(text.parse().unwrap(), &[]);
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[test]
    fn a_proxy_is_shared() {
        let shared = [
            "10.1.0.0/16".parse().unwrap(),
            "2001:db8::7/128".parse().unwrap(),
        ];
        let of = |text: &str| Source::new(text.parse().unwrap(), &shared).is_shared;
        assert!(of("10.1.2.3") && of("::ffff:10.1.2.3") && of("2001:db8::7"));
        assert!(!of("10.2.0.1") && !of("2001:db8::8"));
    }
}
