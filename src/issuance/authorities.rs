//! Every authority of this server, kept in step with the ledger's records.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::authority::{Authority, NoIssuer};
use super::context::IssuanceContext;
use super::error::IssueError;
use super::issuer::Issuer;
use super::leaf::{self, IssuanceRequest, Issued, Naming};
use super::metrics::Metrics;
use super::pipeline::{Prepared, SigningPipeline};
use super::refresh;
use super::signable::Signable;
use super::status::AuthorityStatus;
use super::subordinate;
use crate::authn::{Caller, Identity};
use crate::clock::Clock;
use crate::hsm::Hsm;
use crate::ledger::{CaCertificateId, Snapshot};
use crate::policy::{Grant, NodeAuthorization, Policy, PolicyInput, Profile};
use crate::x509::{Csr, PublicKey, San, TrustBundle, TrustDomain};

type Map = BTreeMap<TrustDomain, Arc<Authority>>;

/// The authorities, the policy over them and the door to their keys.
#[derive(Debug)]
pub struct Authorities {
    map: ArcSwap<Map>,
    policy: ArcSwap<Policy>,
    pipeline: SigningPipeline,
    clock: Arc<dyn Clock>,
    hsm: Arc<Hsm>,
    metrics: Metrics,
    /// Keys of this server's own that no CSR may bring (its TLS keys).
    own_keys: RwLock<HashSet<[u8; 32]>>,
    /// Counts refreshes, for those who wait for an authority.
    refreshed: watch::Sender<u64>,
}

impl Authorities {
    /// No authority yet: [`Self::refresh`] brings them.
    pub fn new(
        pipeline: SigningPipeline,
        hsm: Arc<Hsm>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        metrics: Metrics,
    ) -> Self {
        Self {
            map: ArcSwap::default(),
            policy: ArcSwap::from_pointee(policy),
            pipeline,
            clock,
            hsm,
            metrics,
            own_keys: RwLock::default(),
            refreshed: watch::Sender::new(0),
        }
    }

    /// The straight line: what comes in is a caller and a wish, what comes out is on record.
    ///
    /// # Errors
    /// The one cause of the refusal or failure.
    pub async fn issue(&self, request: IssuanceRequest) -> Result<Issued, IssueError> {
        let outcome = self.run(&request, leaf::prepare).await;
        self.conclude(&request, outcome)
    }

    /// The same line for a CA of this server's own that stands below the issuing CA: nothing that
    /// comes over the network leads here.
    ///
    /// # Errors
    /// The one cause of the refusal or failure.
    pub async fn certify_subordinate(
        &self,
        request: IssuanceRequest,
    ) -> Result<Issued, IssueError> {
        let outcome = self.run(&request, subordinate::prepare).await;
        self.conclude(&request, outcome)
    }

    fn conclude(
        &self,
        request: &IssuanceRequest,
        outcome: Result<Issued, IssueError>,
    ) -> Result<Issued, IssueError> {
        self.metrics.count(request, &outcome);
        match &outcome {
            Ok(issued) => log_issued(request, issued),
            Err(error) => tracing::info!(
                request_id = %request.request_id, caller = %request.caller.identity,
                trust_domain = %request.caller.trust_domain, %error, "no certificate issued"
            ),
        }
        outcome
    }

    async fn run<P, F>(&self, request: &IssuanceRequest, prepare: F) -> Result<Issued, IssueError>
    where
        P: Signable<Out = Issued>,
        F: FnOnce(&Grant, &IssuanceRequest, IssuanceContext) -> Result<Prepared<P>, IssueError>,
    {
        let now = self.clock.now();
        let authority = self.authority(&request.caller.trust_domain)?;
        let grant = self.authorize(request)?;
        self.admit(&authority, &request.csr)?;
        let (issuer, bundle) = authority.active_issuer()?;
        let context = IssuanceContext {
            issuer,
            bundle,
            in_flight: self.pipeline.begin(),
            now,
        };
        let prepared = prepare(&grant, request, context)?;
        self.metrics.time_signing(self.pipeline.run(prepared)).await
    }

    fn authorize(&self, request: &IssuanceRequest) -> Result<Grant, IssueError> {
        let caller = &request.caller;
        let identity = caller.identity.to_string();
        let node_authorization = request.node_authorization.as_ref();
        let caller_name = caller_name(caller, node_authorization, &request.naming);
        let input = PolicyInput {
            trust_domain: &caller.trust_domain,
            identity: &identity,
            caller_name: caller_name.as_ref(),
            profile: &request.profile,
            names: &request.names,
            ttl: request.ttl,
            scope: request.scope,
        };
        Ok(self.policy.load().decide(&input, &request.csr)?)
    }

    /// The authority of a trust domain.
    ///
    /// # Errors
    /// [`IssueError::NoAuthority`].
    pub fn authority(&self, trust_domain: &TrustDomain) -> Result<Arc<Authority>, IssueError> {
        let map = self.map.load();
        map.get(trust_domain)
            .map(Arc::clone)
            .ok_or_else(|| IssueError::NoAuthority(trust_domain.clone()))
    }

    /// Whether a profile of that name exists.
    pub fn has_profile(&self, name: &str) -> bool {
        self.policy.load().has_profile(name)
    }

    /// The profile of that name; the default one for an empty name.
    pub fn profile(&self, name: &str) -> Option<Arc<Profile>> {
        self.policy.load().profile(name).map(Arc::clone)
    }

    /// Puts another policy in force.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Refuses CSRs for `key` from now on: it is this server's.
    pub fn reserve_key(&self, key: &PublicKey) {
        self.own_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.fingerprint());
    }

    fn admit(&self, authority: &Authority, csr: &Csr) -> Result<(), IssueError> {
        let key = csr.public_key();
        let own = self
            .own_keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key.fingerprint());
        match own || authority.is_reserved(key) {
            true => Err(IssueError::KeyReserved),
            false => Ok(()),
        }
    }

    /// Puts the records in force. False when an issuer's key could not be had from its token, and
    /// the same records are worth another try.
    pub async fn refresh(&self, records: &Snapshot) -> bool {
        let last = self.map.load_full();
        let mut next = Map::new();
        let mut complete = true;
        let taken = Arc::new(refresh::taken(records));
        for record in &records.authorities {
            let domain = record.trust_domain.clone();
            let known = last.get(&domain).and_then(|last| last.issuer.as_ref().ok());
            let issuer = refresh::active_issuer(&self.hsm, record, known).await;
            if let Err(why) = &issuer {
                complete &= !matches!(why, NoIssuer::NoKey(_));
                tracing::debug!(trust_domain = %domain, %why, "no issuer");
            }
            let authority = Authority {
                trust_domain: domain.clone(),
                issuer,
                bundle: refresh::bundle(record),
                taken: Arc::clone(&taken),
            };
            next.insert(domain, Arc::new(authority));
        }
        self.map.store(Arc::new(next));
        self.refreshed.send_modify(|count| *count += 1);
        complete
    }

    /// Changes whenever records were put in force.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.refreshed.subscribe()
    }

    /// The CA certificate that the authority of `trust_domain` signs under now; `None` when it
    /// cannot sign.
    pub fn active_certificate_id(&self, trust_domain: &TrustDomain) -> Option<CaCertificateId> {
        let (issuer, _) = self.active_issuer(trust_domain)?;
        Some(issuer.certificate_id())
    }

    /// The issuer of `trust_domain` and the bundle that is answered with its certificates, of one
    /// moment; `None` when it cannot sign.
    pub fn active_issuer(
        &self,
        trust_domain: &TrustDomain,
    ) -> Option<(Arc<Issuer>, Arc<TrustBundle>)> {
        self.authority(trust_domain).ok()?.active_issuer().ok()
    }

    /// Every authority in a few words.
    pub fn status(&self) -> Vec<AuthorityStatus> {
        let map = self.map.load();
        map.values().map(|each| AuthorityStatus::of(each)).collect()
    }
}

/// The caller's name, or the one that was delegated to exactly this caller, as the API has names.
fn caller_name(
    caller: &Caller,
    delegation: Option<&NodeAuthorization>,
    naming: &Naming,
) -> Option<San> {
    let id = match (&caller.identity, delegation) {
        (Identity::Workload(id), None) => id,
        (Identity::Workload(id), Some(delegation)) if delegation.is_for(id) => {
            delegation.identity()
        }
        _ => return None,
    };
    match naming {
        Naming::Spiffe => Some(San::Spiffe(id.clone())),
        // Its trust domain is the caller's: a name of another mesh is nobody's own here.
        Naming::Linkerd(mesh) if *mesh.trust_domain() == caller.trust_domain => {
            mesh.workload_of(id).ok().map(San::from)
        }
        Naming::Linkerd(_) => None,
    }
}

fn log_issued(request: &IssuanceRequest, issued: &Issued) {
    let certificate = issued.certificate();
    tracing::info!(
        request_id = %request.request_id,
        subject = %certificate.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        serial = %certificate.serial(),
        issuer = %issued.issuer().id(),
        caller = %request.caller.identity,
        not_after = %certificate.not_after(),
        "certificate issued"
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authn::Method;
    use crate::policy::{NodeProxy, PodFacts};
    use crate::x509::{LinkerdMesh, SpiffeId};

    fn caller(id: &str) -> Caller {
        let id = SpiffeId::parse(id).unwrap();
        Caller {
            identity: Identity::Workload(id.clone()),
            method: Method::TokenReview,
            ..Caller::local(id.trust_domain().clone(), "test")
        }
    }

    #[test]
    fn a_delegation_is_its_callers_alone() {
        let proxy = SpiffeId::parse("spiffe://td/ns/system/sa/proxy").unwrap();
        let cart = SpiffeId::parse("spiffe://td/ns/shop/sa/cart").unwrap();
        let fact = |namespace, name, account| PodFacts {
            namespace,
            name,
            is_the_tokens: true,
            account,
            node: Some("n1"),
            ended: false,
        };
        let asks = NodeProxy {
            identity: &proxy,
            listed: true,
            pod: Some("p"),
            node: None,
        };
        let own = fact("system", "p", "proxy");
        let delegation =
            NodeAuthorization::decide(asks, &cart, Some(own), [fact("shop", "c", "cart")]).unwrap();
        let named = |caller: &str, delegation| {
            caller_name(&self::caller(caller), delegation, &Naming::Spiffe)
        };
        let own = |id: &SpiffeId| Some(San::Spiffe(id.clone()));
        assert_eq!(named(proxy.as_str(), None), own(&proxy));
        assert_eq!(named(proxy.as_str(), Some(&delegation)), own(&cart));
        // Anybody else with it has nothing, not even a name of its own.
        assert_eq!(named("spiffe://td/ns/x/sa/y", Some(&delegation)), None);
        assert_eq!(named(cart.as_str(), Some(&delegation)), None);
    }

    #[test]
    fn a_linkerd_name_is_the_callers_own_in_its_own_mesh() {
        let cart = caller("spiffe://td/ns/shop/sa/cart");
        let mesh = |domain| {
            let domain = TrustDomain::parse(domain).unwrap();
            Naming::Linkerd(LinkerdMesh::new("linkerd", &domain).unwrap())
        };
        let own = caller_name(&cart, None, &mesh("td")).unwrap();
        let expected = "dns:cart.shop.serviceaccount.identity.linkerd.td";
        assert_eq!(own.to_string(), expected);
        assert_eq!(caller_name(&cart, None, &mesh("other")), None);
        let dotted = caller("spiffe://td/ns/shop/sa/cart.v1");
        assert_eq!(caller_name(&dotted, None, &mesh("td")), None);
    }
}
