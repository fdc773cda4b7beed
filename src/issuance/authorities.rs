//! The authorities of this server, built from the ledger's records.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::admission::{Admission, AdmissionConfig, share_of};
use super::authority::{Authority, NoIssuer};
use super::category::Class;
use super::context::IssuanceContext;
use super::error::IssueError;
use super::issued::Issued;
use super::issuer::Issuer;
use super::metrics::Metrics;
use super::pipeline::{Prepared, SigningPipeline};
use super::request::IssuanceRequest;
use super::reserved::ReservedKeys;
use super::signable::Signable;
use super::status::AuthorityStatus;
use super::{refresh, requested_certificate, subordinate};
use crate::authn::Caller;
use crate::clock::{Clock, UnixTime};
use crate::hsm::Hsm;
use crate::ledger::{CaCertificateId, Snapshot};
use crate::policy::{Grant, Policy, PolicyInput, Profile};
use crate::x509::{PublicKey, TrustBundle, TrustDomain};

type Map = BTreeMap<TrustDomain, Arc<Authority>>;

/// The authorities, the active policy, and the pipeline that signs for them.
#[derive(Debug)]
pub struct Authorities {
    map: ArcSwap<Map>,
    policy: ArcSwap<Policy>,
    admission: Admission,
    pipeline: SigningPipeline,
    clock: Arc<dyn Clock>,
    hsm: Arc<Hsm>,
    metrics: Metrics,
    /// SHA-256 of the keys of this server itself (its TLS keys), which no CSR may be for.
    own_keys: RwLock<HashSet<[u8; 32]>>,
    reserved: Mutex<ReservedKeys>,
    refreshes: watch::Sender<u64>,
}

impl Authorities {
    /// Without any authority until the first [`Self::refresh`].
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
            admission: Admission::default(),
            pipeline,
            clock,
            hsm,
            metrics,
            own_keys: RwLock::default(),
            reserved: Mutex::default(),
            refreshes: watch::Sender::new(0),
        }
    }

    /// Issues a leaf certificate.
    pub async fn issue(&self, request: IssuanceRequest) -> Result<Issued, IssueError> {
        self.run(request, requested_certificate::prepare_leaf).await
    }

    /// Refuses a caller for whose request there is no room now, before the work that its CSR makes.
    /// `for_another`: it is a node's proxy that requests it for a workload.
    ///
    /// # Errors
    /// [`IssueError::Limited`], and [`IssueError::Hsm`] when the queue has no room.
    pub fn look(&self, caller: &Caller, for_another: bool) -> Result<(), IssueError> {
        let room = || {
            self.admission.look(caller, for_another)?;
            match self.active_issuer(&caller.trust_domain) {
                Some((issuer, _)) => Ok(issuer.key().has_room_for(share_of(caller))?),
                // What is wrong is found out later.
                None => Ok(()),
            }
        };
        room().inspect_err(|error| self.metrics.count_refused(caller, error))
    }

    /// Issues the certificate of a CA that a caller requests; see [`Self::issue_ca`] for repeated requests.
    pub(super) async fn issue_requested_ca(
        &self,
        request: IssuanceRequest,
    ) -> Result<Issued, IssueError> {
        self.run(request, subordinate::prepare_requested).await
    }

    /// Issues the certificate of a CA below the issuing CA. No API calls this.
    pub(super) async fn issue_subordinate(
        &self,
        request: IssuanceRequest,
    ) -> Result<Issued, IssueError> {
        self.run(request, subordinate::prepare).await
    }

    /// The end is counted and logged by the task that reaches it: a caller that hangs up, or whose
    /// time is over, loses neither.
    async fn run<P, F>(&self, request: IssuanceRequest, prepare: F) -> Result<Issued, IssueError>
    where
        P: Signable<Out = Issued>,
        F: FnOnce(&Grant, &IssuanceRequest, IssuanceContext) -> Result<Prepared<P>, IssueError>,
    {
        let for_another = request.node_authorization.is_some();
        let admitted = self.admission.admit(&request.caller, for_another);
        let prepared = admitted.map_err(IssueError::from).and_then(|admitted| {
            let prepared = self.prepare(&request, prepare)?;
            Ok((admitted, prepared))
        });
        let (admitted, prepared) = match prepared {
            Ok(both) => both,
            Err(error) => {
                report(&self.metrics, &request, &Err(&error));
                return Err(error);
            }
        };
        let request = Arc::new(request);
        let (metrics, in_progress) = (self.metrics.clone(), self.metrics.start());
        let requested = Arc::clone(&request);
        let on_end = move |outcome: &Result<Issued, IssueError>| {
            drop((in_progress, admitted));
            report(&metrics, &requested, &outcome.as_ref());
        };
        let outcome = self.pipeline.run(prepared, on_end).await;
        // The task does not know these: it goes on, or has panicked.
        if let Err(error @ (IssueError::Timeout(_) | IssueError::TaskFailed)) = &outcome {
            report(&self.metrics, &request, &Err(error));
        }
        outcome
    }

    fn prepare<P, F>(
        &self,
        request: &IssuanceRequest,
        prepare: F,
    ) -> Result<Prepared<P>, IssueError>
    where
        P: Signable<Out = Issued>,
        F: FnOnce(&Grant, &IssuanceRequest, IssuanceContext) -> Result<Prepared<P>, IssueError>,
    {
        let now = self.now();
        let authority = self.authority(&request.caller.trust_domain)?;
        let grant = self.authorize(request)?;
        self.check_key(&authority, request.csr.public_key())?;
        let (issuer, bundle) = authority.active_issuer()?;
        let context = IssuanceContext {
            issuer,
            bundle,
            in_flight: self.pipeline.begin(),
            now,
        };
        prepare(&grant, request, context)
    }

    fn authorize(&self, request: &IssuanceRequest) -> Result<Grant, IssueError> {
        let identity = request.caller.identity.to_string();
        let caller_name = request.caller_name();
        let input = PolicyInput {
            trust_domain: &request.caller.trust_domain,
            identity: &identity,
            caller_name: caller_name.as_ref(),
            profile: &request.profile,
            names: &request.names,
            ttl: request.ttl,
            scope: request.scope,
        };
        Ok(self.policy.load().decide(&input, &request.csr)?)
    }

    fn check_key(&self, authority: &Authority, key: &PublicKey) -> Result<(), IssueError> {
        let own_keys = self.own_keys.read().unwrap_or_else(PoisonError::into_inner);
        match own_keys.contains(&key.fingerprint()) || authority.is_reserved(key) {
            true => Err(IssueError::KeyReserved),
            false => Ok(()),
        }
    }

    pub(super) fn pipeline(&self) -> &SigningPipeline {
        &self.pipeline
    }

    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// # Errors
    /// [`IssueError::NoAuthority`].
    pub fn authority(&self, trust_domain: &TrustDomain) -> Result<Arc<Authority>, IssueError> {
        let map = self.map.load();
        map.get(trust_domain)
            .map(Arc::clone)
            .ok_or_else(|| IssueError::NoAuthority(trust_domain.clone()))
    }

    /// The profile of that name; the default one for an empty name.
    pub fn profile(&self, name: &str) -> Option<Arc<Profile>> {
        self.policy.load().profile(name).map(Arc::clone)
    }

    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    pub fn set_admission(&self, config: &AdmissionConfig) {
        self.admission.configure(config);
    }

    /// Refuses CSRs for `key`, a key of this server, from now on.
    pub fn reserve_key(&self, key: &PublicKey) {
        self.own_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.fingerprint());
    }

    /// Rebuilds the authorities from `records`. False when the token of an issuer's key is
    /// unavailable: then the same records are worth another try.
    pub async fn refresh(&self, records: &Snapshot) -> bool {
        let previous = self.map.load_full();
        let mut next = Map::new();
        let mut complete = true;
        let reserved = self
            .reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refresh(records);
        // Together, so that a token that does not answer holds up no other's authorities.
        let issuers = records.authorities.iter().map(|record| {
            let previous = previous.get(&record.trust_domain);
            let known = previous.and_then(|authority| authority.issuer.as_ref().ok());
            refresh::active_issuer(&self.hsm, record, known)
        });
        let issuers = futures_util::future::join_all(issuers).await;
        for (record, issuer) in records.authorities.iter().zip(issuers) {
            let domain = record.trust_domain.clone();
            let previous = previous.get(&domain);
            if let Err(why) = &issuer {
                complete &= !matches!(why, NoIssuer::KeyUnavailable(_));
                tracing::debug!(trust_domain = %domain, %why, "no issuer");
            }
            let authority = Authority {
                trust_domain: domain.clone(),
                issuer,
                bundle: refresh::bundle(record, previous.and_then(|each| each.bundle.as_ref())),
                reserved: Arc::clone(&reserved),
            };
            next.insert(domain, Arc::new(authority));
        }
        self.map.store(Arc::new(next));
        self.refreshes.send_modify(|count| *count += 1);
        complete
    }

    /// Opens the issuers' keys in the tokens that should have them too and did not.
    pub async fn complete_keys(&self) {
        let authorities = self.map.load_full();
        let issuers = authorities
            .values()
            .filter_map(|each| each.issuer.as_ref().ok());
        let keys = issuers.map(|issuer| self.hsm.complete(issuer.key()));
        futures_util::future::join_all(keys).await;
    }

    /// Changes after every refresh.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.refreshes.subscribe()
    }

    /// The CA certificate that the authority of `trust_domain` signs under; `None` when it cannot
    /// sign.
    pub fn active_certificate_id(&self, trust_domain: &TrustDomain) -> Option<CaCertificateId> {
        let (issuer, _) = self.active_issuer(trust_domain)?;
        Some(issuer.certificate_id())
    }

    /// The active issuer of `trust_domain` and the bundle returned with its certificates; `None`
    /// when it cannot sign.
    pub fn active_issuer(
        &self,
        trust_domain: &TrustDomain,
    ) -> Option<(Arc<Issuer>, Arc<TrustBundle>)> {
        self.authority(trust_domain).ok()?.active_issuer().ok()
    }

    pub fn status(&self) -> Vec<AuthorityStatus> {
        let (now, policy) = (self.clock.now(), self.policy.load());
        let profile = policy.profile("").map(|profile| &**profile);
        let status = |each: &Arc<Authority>| AuthorityStatus::of(each, profile, now);
        self.map.load().values().map(status).collect()
    }
}

fn report(metrics: &Metrics, request: &IssuanceRequest, outcome: &Result<&Issued, &IssueError>) {
    metrics.count(request, outcome);
    match outcome {
        Ok(issued) => log_issued(request, issued),
        // Who refuses the call logs it, once in a while: a flood must not fill the log.
        Err(error) if error.category().class() == Class::Busy => tracing::debug!(
            request_id = %request.request_id, %error, "no certificate issued"
        ),
        Err(error) => tracing::info!(
            request_id = %request.request_id, caller = %request.caller.identity,
            trust_domain = %request.caller.trust_domain, %error, "no certificate issued"
        ),
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
        authenticated_by = %request.caller.method,
        not_after = %certificate.not_after(),
        "certificate issued"
    );
}
