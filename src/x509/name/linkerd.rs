//! Linkerd's names: a DNS name for each service account of a control plane.

use std::fmt;

use super::{DnsName, NameError, SpiffeId, TrustDomain, is_dns_label, printable};

/// The service account of Linkerd's identity controller.
const IDENTITY: &str = "linkerd-identity";

/// A Linkerd control plane: its namespace and its trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerdMesh {
    control_namespace: Box<str>,
    trust_domain: TrustDomain,
}

/// The name of a workload in a Linkerd mesh:
/// `ACCOUNT.NAMESPACE.serviceaccount.identity.CONTROL_NAMESPACE.TRUST_DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkerdName(DnsName);

impl LinkerdMesh {
    /// # Errors
    /// [`NameError`] when the namespace is not a DNS-1123 label, or the trust domain no DNS name.
    pub fn new(control_namespace: &str, trust_domain: &TrustDomain) -> Result<Self, NameError> {
        if !is_dns_label(control_namespace.as_bytes()) {
            return Err(NameError::Namespace {
                name: printable(control_namespace),
            });
        }
        DnsName::parse(trust_domain.as_str())?;
        Ok(Self {
            control_namespace: control_namespace.into(),
            trust_domain: trust_domain.clone(),
        })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The name of a service account's workloads.
    ///
    /// # Errors
    /// [`NameError`] when the namespace or the account is not a DNS-1123 label (an account with a
    /// dot could name another namespace's), or the result is longer than 253 bytes.
    pub fn workload(&self, namespace: &str, account: &str) -> Result<LinkerdName, NameError> {
        if !is_dns_label(namespace.as_bytes()) {
            return Err(NameError::Namespace {
                name: printable(namespace),
            });
        }
        if !is_dns_label(account.as_bytes()) {
            return Err(NameError::LinkerdAccount {
                name: printable(account),
            });
        }
        DnsName::parse(&format!(
            "{account}.{namespace}.serviceaccount.identity.{}.{}",
            self.control_namespace, self.trust_domain
        ))
        .map(LinkerdName)
    }

    /// The Linkerd name of a service account given by its SPIFFE ID.
    ///
    /// # Errors
    /// [`NameError`] when the ID is of another trust domain or no service account's, and as
    /// [`LinkerdMesh::workload`].
    pub fn workload_of(&self, id: &SpiffeId) -> Result<LinkerdName, NameError> {
        match id.as_service_account() {
            Some((namespace, account)) if id.in_domain(&self.trust_domain) => {
                self.workload(namespace, account)
            }
            _ => Err(NameError::NotInMesh {
                name: id.to_string(),
                trust_domain: self.trust_domain.to_string(),
            }),
        }
    }

    /// The name of the identity service, which proxies verify in its certificate.
    pub fn identity_service(&self) -> Result<LinkerdName, NameError> {
        self.workload(&self.control_namespace, IDENTITY)
    }
}

impl LinkerdName {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for LinkerdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<LinkerdName> for DnsName {
    fn from(name: LinkerdName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mesh() -> LinkerdMesh {
        LinkerdMesh::new("linkerd", &TrustDomain::parse("cluster.local").unwrap()).unwrap()
    }

    #[test]
    fn a_name_is_made_of_its_parts() {
        let name = mesh().workload("shop", "cart").unwrap();
        let expected = "cart.shop.serviceaccount.identity.linkerd.cluster.local";
        assert_eq!(name.as_str(), expected);
        let id = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/cart").unwrap();
        assert_eq!(mesh().workload_of(&id).unwrap(), name);
        assert_eq!(
            mesh().identity_service().unwrap().as_str(),
            "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
        );
    }

    #[test]
    fn no_part_can_pass_for_two() {
        let long = "a".repeat(64);
        for (namespace, account) in [
            ("shop", "cart.v1"),
            ("shop.x", "cart"),
            ("shop", ""),
            ("", "cart"),
            ("Shop", "cart"),
            ("shop", "Cart"),
            ("shop", "-cart"),
            ("shop", "cart-"),
            ("shop", "*"),
            ("shop", "ca_rt"),
            ("shop", long.as_str()),
            (long.as_str(), "cart"),
        ] {
            assert!(
                mesh().workload(namespace, account).is_err(),
                "{account}.{namespace}"
            );
        }
        assert!(mesh().workload(&"a".repeat(63), &"b".repeat(63)).is_ok());
    }

    #[test]
    fn another_trust_domain_or_kind_has_no_name_here() {
        for id in [
            "spiffe://other.local/ns/shop/sa/cart",
            "spiffe://cluster.local/ns/shop/sa/cart.v1",
            "spiffe://cluster.local/node/n1",
            "spiffe://cluster.local",
        ] {
            let id = SpiffeId::parse(id).unwrap();
            assert!(mesh().workload_of(&id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_mesh_needs_dns_names() {
        for (namespace, domain) in [("Linkerd", "td"), ("a.b", "td"), ("", "td"), ("l", "a_b")] {
            let domain = TrustDomain::parse(domain).unwrap();
            assert!(LinkerdMesh::new(namespace, &domain).is_err());
        }
        let long = format!("{}.local", vec!["a".repeat(60); 3].join("."));
        let mesh = LinkerdMesh::new("linkerd", &TrustDomain::parse(&long).unwrap()).unwrap();
        assert!(mesh.workload("shop", &"b".repeat(63)).is_err());
    }
}
