//! Node authorization: a node's proxy requests the identity of a workload on its node.
//!
//! The decision depends only on what the cluster reports about the proxy's pod and the pods on its
//! node. Its result is a [`NodeAuthorization`], which no other module can make.

use crate::x509::{NameError, SpiffeId, TrustDomain};

/// The requesting proxy: an authenticated service account.
#[derive(Clone, Copy, Debug)]
pub struct NodeProxy<'a> {
    /// In the trust domain of the verifier that accepted it.
    pub identity: &'a SpiffeId,
    /// Whether its account is one of the cluster's `node_accounts`.
    pub listed: bool,
    /// The pod that its token is bound to.
    pub pod: Option<&'a str>,
    /// The node that its token names.
    pub node: Option<&'a str>,
}

/// A pod in the cluster that authenticated the proxy.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Whether it has the UID that the proxy's token names.
    pub has_token_uid: bool,
    pub account: &'a str,
    /// Its node, once it is scheduled.
    pub node: Option<&'a str>,
    /// Whether its phase is Failed or Succeeded.
    pub ended: bool,
}

/// The permission to certify an identity other than the caller's own.
#[derive(Debug, PartialEq, Eq)]
pub struct NodeAuthorization {
    caller: SpiffeId,
    identity: SpiffeId,
    node: String,
}

/// Why a node's proxy may not have an identity. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthorized {
    #[error("no cluster authenticated the caller, so its node is not known")]
    NoCluster,
    #[error("{0} is not among the node_accounts of its cluster")]
    NotListed(SpiffeId),
    #[error("the requested identity is invalid: {0}")]
    InvalidIdentity(#[from] NameError),
    #[error("{0} is not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")]
    NoServiceAccount(SpiffeId),
    #[error("{requested} is not in the caller's trust domain {trust_domain}")]
    ForeignTrustDomain {
        requested: SpiffeId,
        trust_domain: TrustDomain,
    },
    #[error("the caller's cluster is not allowed the namespace of {0}")]
    ForeignNamespace(SpiffeId),
    #[error("the caller's token is bound to no pod")]
    Unbound,
    #[error("the cluster has no pod {0} with the UID of the caller's token")]
    NoPod(String),
    #[error("the pod {0} has another service account than its token")]
    OtherAccount(String),
    #[error("the pod {0} is on no node yet")]
    NotScheduled(String),
    #[error("the pod {0} is on another node than its token says")]
    OtherNode(String),
    #[error("no pod of {requested} runs on the caller's node {node}")]
    NotOnNode { requested: SpiffeId, node: String },
}

impl NotAuthorized {
    /// Whether a watch event may change the decision: the watch reports a newly scheduled pod with
    /// a delay.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NoPod(_) | Self::NotScheduled(_) | Self::NotOnNode { .. }
        )
    }
}

impl NodeAuthorization {
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn is_for(&self, caller: &SpiffeId) -> bool {
        self.caller == *caller
    }

    /// Decides whether `proxy` may have the identity `requested`. `own_pod` is the cluster's pod
    /// with the name of the proxy's, `neighbours` are the pods on that pod's node.
    pub fn decide<'a>(
        proxy: NodeProxy<'_>,
        requested: &SpiffeId,
        own_pod: Option<PodFacts<'_>>,
        neighbours: impl IntoIterator<Item = PodFacts<'a>>,
    ) -> Result<Self, NotAuthorized> {
        if !proxy.listed {
            return Err(NotAuthorized::NotListed(proxy.identity.clone()));
        }
        let Some((namespace, account)) = requested.as_service_account() else {
            return Err(NotAuthorized::NoServiceAccount(requested.clone()));
        };
        if !requested.in_domain(proxy.identity.trust_domain()) {
            return Err(NotAuthorized::ForeignTrustDomain {
                requested: requested.clone(),
                trust_domain: proxy.identity.trust_domain().clone(),
            });
        }
        let node = node_of(proxy, own_pod)?;
        let runs = |pod: PodFacts<'_>| {
            pod.node == Some(node)
                && pod.namespace == namespace
                && pod.account == account
                && !pod.ended
        };
        if !neighbours.into_iter().any(runs) {
            return Err(NotAuthorized::NotOnNode {
                requested: requested.clone(),
                node: node.to_owned(),
            });
        }
        Ok(Self {
            caller: proxy.identity.clone(),
            identity: requested.clone(),
            node: node.to_owned(),
        })
    }
}

/// The proxy's node, confirmed by its pod.
fn node_of<'p>(
    proxy: NodeProxy<'_>,
    own_pod: Option<PodFacts<'p>>,
) -> Result<&'p str, NotAuthorized> {
    let name = proxy.pod.ok_or(NotAuthorized::Unbound)?;
    let (namespace, account) = proxy
        .identity
        .as_service_account()
        .ok_or_else(|| NotAuthorized::NoServiceAccount(proxy.identity.clone()))?;
    let full = || format!("{namespace}/{name}");
    let own = own_pod
        .filter(|own| own.has_token_uid && own.namespace == namespace && own.name == name)
        .ok_or_else(|| NotAuthorized::NoPod(full()))?;
    if own.account != account {
        return Err(NotAuthorized::OtherAccount(full()));
    }
    let node = own
        .node
        .ok_or_else(|| NotAuthorized::NotScheduled(full()))?;
    if proxy.node.is_some_and(|claimed| claimed != node) {
        return Err(NotAuthorized::OtherNode(full()));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    fn pod<'a>(name: &'a str, account: &'a str, node: &'a str) -> PodFacts<'a> {
        PodFacts {
            namespace: "shop",
            name,
            has_token_uid: false,
            account,
            node: Some(node),
            ended: false,
        }
    }

    fn own() -> PodFacts<'static> {
        PodFacts {
            namespace: "istio-system",
            has_token_uid: true,
            ..pod("ztunnel-1", "ztunnel", "n1")
        }
    }

    /// A proxy that may have `spiffe://td/ns/shop/sa/cart`, but for what is changed.
    fn decide(
        requested: &str,
        change: impl FnOnce(&mut NodeProxy<'_>, &mut Option<PodFacts<'static>>, &mut PodFacts<'static>),
    ) -> Result<NodeAuthorization, NotAuthorized> {
        let identity = id("spiffe://td/ns/istio-system/sa/ztunnel");
        let mut proxy = NodeProxy {
            identity: &identity,
            listed: true,
            pod: Some("ztunnel-1"),
            node: Some("n1"),
        };
        let (mut own, mut neighbour) = (Some(own()), pod("cart-1", "cart", "n1"));
        change(&mut proxy, &mut own, &mut neighbour);
        NodeAuthorization::decide(proxy, &id(requested), own, [neighbour])
    }

    const CART: &str = "spiffe://td/ns/shop/sa/cart";

    #[test]
    fn a_listed_proxy_may_have_the_identities_on_its_node() {
        let authorization = decide(CART, |_, _, _| {}).unwrap();
        assert_eq!(authorization.identity(), &id(CART));
        assert_eq!(authorization.node(), "n1");
        assert!(authorization.is_for(&id("spiffe://td/ns/istio-system/sa/ztunnel")));
        assert!(!authorization.is_for(&id(CART)));
        assert!(decide(CART, |proxy, _, _| proxy.node = None).is_ok());
    }

    #[test]
    fn every_condition_is_required() {
        use NotAuthorized as No;
        let refused = |requested,
                       change: fn(
            &mut NodeProxy<'_>,
            &mut Option<PodFacts<'static>>,
            &mut PodFacts<'static>,
        )| { decide(requested, change).unwrap_err() };
        assert!(matches!(
            refused(CART, |p, _, _| p.listed = false),
            No::NotListed(_)
        ));
        assert!(matches!(refused(CART, |p, _, _| p.pod = None), No::Unbound));
        assert!(matches!(
            refused(CART, |p, _, _| p.pod = Some("ztunnel-2")),
            No::NoPod(_)
        ));
        assert!(matches!(
            refused(CART, |p, _, _| p.node = Some("n2")),
            No::OtherNode(_)
        ));
        assert!(matches!(
            refused(CART, |_, own, _| *own = None),
            No::NoPod(_)
        ));
        let change = |own: &mut Option<PodFacts<'static>>, with: fn(&mut PodFacts<'static>)| {
            if let Some(own) = own.as_mut() {
                with(own);
            }
        };
        let own = |with: fn(&mut PodFacts<'static>)| {
            decide(CART, |_, own, _| change(own, with)).unwrap_err()
        };
        assert!(matches!(own(|own| own.has_token_uid = false), No::NoPod(_)));
        assert!(matches!(own(|own| own.namespace = "other"), No::NoPod(_)));
        assert!(matches!(
            own(|own| own.account = "default"),
            No::OtherAccount(_)
        ));
        assert!(matches!(own(|own| own.node = None), No::NotScheduled(_)));
        for with in [
            (|pod: &mut PodFacts<'static>| pod.ended = true) as fn(&mut PodFacts<'static>),
            |pod| pod.node = Some("n2"),
            |pod| pod.node = None,
            |pod| pod.account = "cart2",
            |pod| pod.namespace = "shop2",
        ] {
            let error = decide(CART, |_, _, neighbour| with(neighbour)).unwrap_err();
            assert!(matches!(error, No::NotOnNode { .. }), "{error}");
        }
    }

    /// A proxy whose own identity is no service account has no pod of its own.
    #[test]
    fn a_proxy_is_a_service_account_itself() {
        let identity = id("spiffe://td/gateway");
        let proxy = NodeProxy {
            identity: &identity,
            listed: true,
            pod: Some("ztunnel-1"),
            node: Some("n1"),
        };
        let neighbours = [pod("cart-1", "cart", "n1")];
        let error = NodeAuthorization::decide(proxy, &id(CART), Some(own()), neighbours);
        assert_eq!(
            error.unwrap_err(),
            NotAuthorized::NoServiceAccount(identity)
        );
    }

    /// One of several pods is enough, and any of them may be it.
    #[test]
    fn one_of_the_neighbours_is_enough() {
        let identity = id("spiffe://td/ns/istio-system/sa/ztunnel");
        let proxy = NodeProxy {
            identity: &identity,
            listed: true,
            pod: Some("ztunnel-1"),
            node: None,
        };
        let (cart, till) = (pod("cart-1", "cart", "n1"), pod("till-1", "till", "n1"));
        for (neighbours, allowed) in [
            (vec![till, cart], true),
            (vec![cart, till], true),
            (vec![till], false),
            (vec![], false),
        ] {
            let decided = NodeAuthorization::decide(proxy, &id(CART), Some(own()), neighbours);
            assert_eq!(decided.is_ok(), allowed, "{decided:?}");
        }
    }

    /// What a watch event may change is worth a wait; the rest is final.
    #[test]
    fn only_what_the_watch_may_change_is_transient() {
        use NotAuthorized as No;
        let (cart, text) = (id(CART), "shop/cart-1".to_owned());
        for (refusal, transient) in [
            (No::NoCluster, false),
            (No::NotListed(cart.clone()), false),
            (No::NoServiceAccount(cart.clone()), false),
            (No::ForeignNamespace(cart.clone()), false),
            (No::Unbound, false),
            (No::OtherAccount(text.clone()), false),
            (No::OtherNode(text.clone()), false),
            (No::NoPod(text.clone()), true),
            (No::NotScheduled(text), true),
            (
                No::NotOnNode {
                    requested: cart,
                    node: "n1".to_owned(),
                },
                true,
            ),
        ] {
            assert_eq!(refusal.is_transient(), transient, "{refusal}");
        }
    }

    #[test]
    fn the_identity_is_a_service_account_of_the_callers_domain() {
        for (requested, foreign) in [
            ("spiffe://other/ns/shop/sa/cart", true),
            ("spiffe://td", false),
            ("spiffe://td/ns/shop", false),
            ("spiffe://td/ns/shop/sa/cart/x", false),
            ("spiffe://td/sa/shop/ns/cart", false),
            ("spiffe://td/ns/Shop/sa/cart", false),
        ] {
            let error = decide(requested, |_, _, _| {}).unwrap_err();
            let is_foreign = matches!(error, NotAuthorized::ForeignTrustDomain { .. });
            assert_eq!(is_foreign, foreign, "{error}");
            assert!(!error.is_transient());
        }
    }
}
