//! Node authorization: a node's proxy asks for the identity of a workload beside it.
//!
//! A pure decision over what the cluster says of the proxy's pod and of the pods on its node. Its
//! one result is a [`NodeAuthorization`], which nothing else can make.

use crate::x509::{NameError, SpiffeId, TrustDomain};

/// Who asks on another's behalf: an authenticated service account.
#[derive(Clone, Copy, Debug)]
pub struct NodeProxy<'a> {
    /// Its identity, in the trust domain of the verifier that accepted it.
    pub identity: &'a SpiffeId,
    /// Whether its account is among those that may ask for the workloads of their node.
    pub listed: bool,
    /// The name of the pod that its token is bound to.
    pub pod: Option<&'a str>,
    /// The node that its token names, where it names one.
    pub node: Option<&'a str>,
}

/// A pod, as the cluster that vouched for the proxy has it.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether it has the UID that the proxy's token names.
    pub is_the_tokens: bool,
    /// Its service account.
    pub account: &'a str,
    /// Its node, once it was put on one.
    pub node: Option<&'a str>,
    /// Whether its phase is Failed or Succeeded.
    pub ended: bool,
}

/// A permission to certify one other identity than the caller's own.
#[derive(Debug, PartialEq, Eq)]
pub struct NodeAuthorization {
    caller: SpiffeId,
    identity: SpiffeId,
    node: String,
}

/// Why there is no delegation. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthorized {
    /// No cluster vouched for the caller at this call.
    #[error("no cluster vouched for the caller, so that its node is not known")]
    NoCluster,
    /// The caller's account is not listed.
    #[error("{0} is not among the node_accounts of its cluster")]
    NotListed(SpiffeId),
    /// What is asked for is no identity.
    #[error("the identity asked for cannot be read: {0}")]
    Unreadable(#[from] NameError),
    /// What is asked for is not the identity of a service account.
    #[error("{0} is not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")]
    NoServiceAccount(SpiffeId),
    /// Another trust domain than the caller's.
    #[error("{asked} is not in the caller's trust domain {trust_domain}")]
    ForeignTrustDomain {
        /// What was asked for.
        asked: SpiffeId,
        /// The caller's.
        trust_domain: TrustDomain,
    },
    /// The cluster may not speak for the namespace.
    #[error("the caller's cluster may not speak for the namespace of {0}")]
    ForeignNamespace(SpiffeId),
    /// The caller's token is bound to no pod.
    #[error("the caller's token is bound to no pod")]
    Unbound,
    /// The pod of the caller's token is not there.
    #[error("the cluster has no pod {0} with the UID of the caller's token")]
    NoPod(String),
    /// That pod has another account than the caller.
    #[error("the pod {0} has another service account than its token")]
    OtherAccount(String),
    /// That pod is on no node yet.
    #[error("the pod {0} is on no node yet")]
    NotPlaced(String),
    /// That pod is on another node than the token says.
    #[error("the pod {0} is on another node than its token says")]
    OtherNode(String),
    /// Nobody on that node has the identity.
    #[error("no pod of {asked} runs on the caller's node {node}")]
    NotOnNode {
        /// What was asked for.
        asked: SpiffeId,
        /// The caller's node.
        node: String,
    },
}

impl NotAuthorized {
    /// Whether news from the cluster may change it: a pod that was put on its node a moment ago is
    /// not heard of at once.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoPod(_) | Self::NotPlaced(_) | Self::NotOnNode { .. }
        )
    }
}

impl NodeAuthorization {
    /// What may be certified.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The node whose proxy asked.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether it was made for this caller.
    pub fn is_for(&self, caller: &SpiffeId) -> bool {
        self.caller == *caller
    }

    /// Decides whether `proxy` may have the identity `asked`: `own_pod` is what the cluster has
    /// under the name of the proxy's pod, `neighbours` are the pods of that pod's node.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn decide<'a>(
        proxy: NodeProxy<'_>,
        asked: &SpiffeId,
        own_pod: Option<PodFacts<'_>>,
        neighbours: impl IntoIterator<Item = PodFacts<'a>>,
    ) -> Result<Self, NotAuthorized> {
        if !proxy.listed {
            return Err(NotAuthorized::NotListed(proxy.identity.clone()));
        }
        let Some((namespace, account)) = asked.as_service_account() else {
            return Err(NotAuthorized::NoServiceAccount(asked.clone()));
        };
        if !asked.in_domain(proxy.identity.trust_domain()) {
            return Err(NotAuthorized::ForeignTrustDomain {
                asked: asked.clone(),
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
                asked: asked.clone(),
                node: node.to_owned(),
            });
        }
        Ok(Self {
            caller: proxy.identity.clone(),
            identity: asked.clone(),
            node: node.to_owned(),
        })
    }
}

/// The node that the proxy is certainly on.
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
        .filter(|own| own.is_the_tokens && own.namespace == namespace && own.name == name)
        .ok_or_else(|| NotAuthorized::NoPod(full()))?;
    if own.account != account {
        return Err(NotAuthorized::OtherAccount(full()));
    }
    let node = own.node.ok_or_else(|| NotAuthorized::NotPlaced(full()))?;
    if proxy.node.is_some_and(|said| said != node) {
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
            is_the_tokens: false,
            account,
            node: Some(node),
            ended: false,
        }
    }

    fn own() -> PodFacts<'static> {
        PodFacts {
            namespace: "istio-system",
            is_the_tokens: true,
            ..pod("ztunnel-1", "ztunnel", "n1")
        }
    }

    /// A proxy that may have `spiffe://td/ns/shop/sa/cart`, but for what is changed.
    fn ask(
        asked: &str,
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
        NodeAuthorization::decide(proxy, &id(asked), own, [neighbour])
    }

    const CART: &str = "spiffe://td/ns/shop/sa/cart";

    #[test]
    fn a_listed_proxy_has_the_workloads_of_its_node() {
        let delegation = ask(CART, |_, _, _| {}).unwrap();
        assert_eq!(delegation.identity(), &id(CART));
        assert_eq!(delegation.node(), "n1");
        assert!(delegation.is_for(&id("spiffe://td/ns/istio-system/sa/ztunnel")));
        assert!(!delegation.is_for(&id(CART)));
        assert!(ask(CART, |proxy, _, _| proxy.node = None).is_ok());
    }

    #[test]
    fn each_condition_is_needed() {
        use NotAuthorized as No;
        let refused = |asked,
                       change: fn(
            &mut NodeProxy<'_>,
            &mut Option<PodFacts<'static>>,
            &mut PodFacts<'static>,
        )| { ask(asked, change).unwrap_err() };
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
            ask(CART, |_, own, _| change(own, with)).unwrap_err()
        };
        assert!(matches!(own(|own| own.is_the_tokens = false), No::NoPod(_)));
        assert!(matches!(own(|own| own.namespace = "other"), No::NoPod(_)));
        assert!(matches!(
            own(|own| own.account = "default"),
            No::OtherAccount(_)
        ));
        assert!(matches!(own(|own| own.node = None), No::NotPlaced(_)));
        for with in [
            (|pod: &mut PodFacts<'static>| pod.ended = true) as fn(&mut PodFacts<'static>),
            |pod| pod.node = Some("n2"),
            |pod| pod.node = None,
            |pod| pod.account = "cart2",
            |pod| pod.namespace = "shop2",
        ] {
            let error = ask(CART, |_, _, neighbour| with(neighbour)).unwrap_err();
            assert!(matches!(error, No::NotOnNode { .. }), "{error}");
        }
    }

    #[test]
    fn the_identity_is_an_accounts_of_the_callers_domain() {
        for (asked, foreign) in [
            ("spiffe://other/ns/shop/sa/cart", true),
            ("spiffe://td", false),
            ("spiffe://td/ns/shop", false),
            ("spiffe://td/ns/shop/sa/cart/x", false),
            ("spiffe://td/sa/shop/ns/cart", false),
            ("spiffe://td/ns/Shop/sa/cart", false),
        ] {
            let error = ask(asked, |_, _, _| {}).unwrap_err();
            let is_foreign = matches!(error, NotAuthorized::ForeignTrustDomain { .. });
            assert_eq!(is_foreign, foreign, "{error}");
            assert!(!error.may_pass());
        }
    }
}
