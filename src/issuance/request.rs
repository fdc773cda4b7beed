//! A request for a certificate, in the form that every API translates its own into.

use std::time::Duration;

use crate::authn::{Caller, Identity};
use crate::ledger::WorkLease;
use crate::policy::{NodeAuthorization, Scope};
use crate::x509::{Csr, LinkerdMesh, San};

/// What an API calls a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Naming {
    /// Its SPIFFE ID.
    #[default]
    Spiffe,
    /// Its DNS name in a Linkerd mesh.
    Linkerd(LinkerdMesh),
}

/// A request for a certificate.
#[derive(Debug)]
pub struct IssuanceRequest {
    pub caller: Caller,
    pub csr: Csr,
    /// The profile by name; empty for the default.
    pub profile: String,
    /// Names given beside the CSR.
    pub names: Vec<San>,
    /// The requested lifetime.
    pub ttl: Option<Duration>,
    pub scope: Scope,
    pub naming: Naming,
    /// Lets a node's proxy request the identity of a workload on its node.
    pub node_authorization: Option<NodeAuthorization>,
    /// Unique within the caller's identity. A repeated key returns the recorded certificate.
    pub idempotency_key: Option<String>,
    /// For the log, the ledger and the response.
    pub request_id: String,
    /// It is signed only while this server holds the lease.
    pub lease: Option<WorkLease>,
}

impl IssuanceRequest {
    /// The caller's name in the form of the API.
    pub(super) fn caller_name(&self) -> Option<San> {
        caller_name(&self.caller, self.node_authorization.as_ref(), &self.naming)
    }
}

fn caller_name(
    caller: &Caller,
    node_authorization: Option<&NodeAuthorization>,
    naming: &Naming,
) -> Option<San> {
    let id = match (&caller.identity, node_authorization) {
        (Identity::Workload(id), None) => id,
        (Identity::Workload(id), Some(authorization)) if authorization.is_for(id) => {
            authorization.identity()
        }
        _ => return None,
    };
    match naming {
        Naming::Spiffe => Some(San::Spiffe(id.clone())),
        // A mesh of another trust domain has no name for the caller.
        Naming::Linkerd(mesh) if *mesh.trust_domain() == caller.trust_domain => {
            mesh.workload_of(id).ok().map(San::from)
        }
        Naming::Linkerd(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authn::Method;
    use crate::policy::{NodeProxy, PodFacts};
    use crate::x509::{SpiffeId, TrustDomain};

    fn caller(id: &str) -> Caller {
        let id = SpiffeId::parse(id).unwrap();
        Caller {
            identity: Identity::Workload(id.clone()),
            method: Method::TokenReview,
            ..Caller::local(id.trust_domain().clone(), "test")
        }
    }

    #[test]
    fn a_node_authorization_is_valid_for_its_caller_only() {
        let proxy = SpiffeId::parse("spiffe://td/ns/system/sa/proxy").unwrap();
        let cart = SpiffeId::parse("spiffe://td/ns/shop/sa/cart").unwrap();
        let pod = |namespace, name, account| PodFacts {
            namespace,
            name,
            has_token_uid: true,
            account,
            node: Some("n1"),
            ended: false,
        };
        let node_proxy = NodeProxy {
            identity: &proxy,
            listed: true,
            pod: Some("p"),
            node: None,
        };
        let own_pod = pod("system", "p", "proxy");
        let neighbours = [pod("shop", "c", "cart")];
        let authorization =
            NodeAuthorization::decide(node_proxy, &cart, Some(own_pod), neighbours).unwrap();
        let name_of =
            |id: &str, authorization| caller_name(&caller(id), authorization, &Naming::Spiffe);
        let spiffe = |id: &SpiffeId| Some(San::Spiffe(id.clone()));
        assert_eq!(name_of(proxy.as_str(), None), spiffe(&proxy));
        assert_eq!(name_of(proxy.as_str(), Some(&authorization)), spiffe(&cart));
        // Any other caller has no name with it, not even its own.
        assert_eq!(name_of("spiffe://td/ns/x/sa/y", Some(&authorization)), None);
        assert_eq!(name_of(cart.as_str(), Some(&authorization)), None);
    }

    #[test]
    fn a_linkerd_name_belongs_to_the_callers_own_mesh() {
        let cart = caller("spiffe://td/ns/shop/sa/cart");
        let mesh = |domain| {
            let domain = TrustDomain::parse(domain).unwrap();
            Naming::Linkerd(LinkerdMesh::new("linkerd", &domain).unwrap())
        };
        let name = caller_name(&cart, None, &mesh("td")).unwrap();
        let expected = "dns:cart.shop.serviceaccount.identity.linkerd.td";
        assert_eq!(name.to_string(), expected);
        assert_eq!(caller_name(&cart, None, &mesh("other")), None);
        let dotted = caller("spiffe://td/ns/shop/sa/cart.v1");
        assert_eq!(caller_name(&dotted, None, &mesh("td")), None);
    }
}
