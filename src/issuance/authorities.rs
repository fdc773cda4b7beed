//! Every authority of this server, kept in step with the ledger's records.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::authority::Authority;
use super::door::Door;
use super::error::IssueError;
use super::issuer::Issuer;
use super::leaf::{self, Issued, LeafRequest};
use super::metrics::Metrics;
use crate::authn::{Caller, Identity};
use crate::clock::{Clock, UnixTime};
use crate::hsm::{Hsm, Key};
use crate::ledger::{AuthorityRecord, IssuerId, IssuerRecord, IssuerState, Role, Snapshot};
use crate::policy::{Applicant, Ask, Grant, Policy};
use crate::x509::{Certificate, PublicKey, TrustBundle, TrustDomain};

type Map = BTreeMap<TrustDomain, Arc<Authority>>;

/// The authorities, the policy over them and the door to their keys.
#[derive(Debug)]
pub struct Authorities {
    map: ArcSwap<Map>,
    policy: ArcSwap<Policy>,
    door: Door,
    clock: Arc<dyn Clock>,
    hsm: Arc<Hsm>,
    metrics: Metrics,
    /// Keys of this server's own that no CSR may bring (its TLS keys).
    own_keys: Mutex<HashSet<[u8; 32]>>,
    /// Counts refreshes, for those who wait for an authority.
    refreshed: watch::Sender<u64>,
}

/// An authority in a few words, for status pages and readiness.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AuthorityStatus {
    /// The trust domain.
    pub trust_domain: String,
    /// The active issuer's id; absent when none can sign.
    pub issuer: Option<String>,
    /// Why none can sign.
    pub why: Option<String>,
    /// notAfter of the issuing certificate, RFC 3339.
    pub issuer_not_after: Option<String>,
    /// notAfter of the issuing certificate, seconds since the epoch.
    #[serde(skip)]
    pub issuer_not_after_secs: Option<i64>,
    /// Sequence of the published bundle.
    pub bundle_sequence: Option<u64>,
}

impl Authorities {
    /// No authority yet: [`Self::refresh`] brings them.
    pub fn new(
        door: Door,
        hsm: Arc<Hsm>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        metrics: Metrics,
    ) -> Self {
        Self {
            map: ArcSwap::default(),
            policy: ArcSwap::from_pointee(policy),
            door,
            clock,
            hsm,
            metrics,
            own_keys: Mutex::default(),
            refreshed: watch::Sender::new(0),
        }
    }

    /// The straight line: what comes in is a caller and a wish, what comes out is on record.
    ///
    /// # Errors
    /// The one cause of the refusal or failure.
    pub async fn issue(&self, request: LeafRequest) -> Result<Issued, IssueError> {
        let now = self.clock.now();
        let outcome = self.walk(&request, now).await;
        self.metrics.count(&request, &outcome);
        match &outcome {
            Ok(issued) => log_issued(&request, issued),
            Err(error) => tracing::info!(
                request_id = %request.request_id, caller = %request.caller.identity,
                trust_domain = %request.caller.trust_domain, %error, "no certificate issued"
            ),
        }
        outcome
    }

    async fn walk(&self, request: &LeafRequest, now: UnixTime) -> Result<Issued, IssueError> {
        let authority = self.authority(&request.caller.trust_domain)?;
        let grant = self.authorize(request)?;
        authority.admit(&request.csr)?;
        let (issuer, bundle) = authority.in_force()?;
        let prepared = leaf::prepare(&grant, request, issuer, bundle, self.door.epoch(), now)?;
        self.metrics.time_signing(self.door.walk(prepared)).await
    }

    fn authorize(&self, request: &LeafRequest) -> Result<Grant, IssueError> {
        let LeafRequest {
            caller,
            csr,
            profile,
            names,
            ttl,
            scope,
            ..
        } = request;
        let identity = caller.identity.to_string();
        let applicant = Applicant {
            trust_domain: &caller.trust_domain,
            identity: &identity,
            own_name: own_name(caller),
        };
        let ask = Ask {
            profile,
            names,
            ttl: *ttl,
            scope: *scope,
        };
        Ok(self.policy.load().decide(applicant, &ask, csr)?)
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

    /// Puts another policy in force.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Refuses CSRs for `key` from now on: it is this server's.
    pub fn claim_key(&self, key: &PublicKey) {
        self.own_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.fingerprint());
        let own = self
            .own_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let map = self.map.load();
        let next: Map = map
            .iter()
            .map(|(domain, authority)| {
                let taken = Arc::new(authority.taken.union(&own).copied().collect());
                let Authority {
                    trust_domain,
                    issuer,
                    bundle,
                    ..
                } = authority.as_ref();
                let (trust_domain, issuer, bundle) =
                    (trust_domain.clone(), issuer.clone(), bundle.clone());
                (
                    domain.clone(),
                    Arc::new(Authority {
                        trust_domain,
                        issuer,
                        bundle,
                        taken,
                    }),
                )
            })
            .collect();
        self.map.store(Arc::new(next));
    }

    /// Puts the records in force. Returns whether every authority that should sign can: when it
    /// is false, a key could not be had from its token, and the caller tries again.
    pub async fn refresh(&self, records: &Snapshot) -> bool {
        let last = self.map.load_full();
        let mut next = Map::new();
        let mut complete = true;
        let taken = Arc::new(self.taken(records));
        for record in &records.authorities {
            let issuer = self.active_issuer(record, &last).await;
            if let Err(why) = &issuer {
                complete = false;
                tracing::debug!(trust_domain = %record.trust_domain, %why, "no issuer");
            }
            let authority = Authority {
                trust_domain: record.trust_domain.clone(),
                issuer,
                bundle: bundle(record),
                taken: Arc::clone(&taken),
            };
            next.insert(record.trust_domain.clone(), Arc::new(authority));
        }
        self.map.store(Arc::new(next));
        self.refreshed.send_modify(|count| *count += 1);
        complete
    }

    /// Changes whenever records were put in force.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.refreshed.subscribe()
    }

    /// Whether the authority of `trust_domain` has an issuer and a bundle.
    pub fn is_ready(&self, trust_domain: &TrustDomain) -> bool {
        self.authority(trust_domain)
            .is_ok_and(|authority| authority.in_force().is_ok())
    }

    /// Every authority in a few words.
    pub fn status(&self) -> Vec<AuthorityStatus> {
        self.map
            .load()
            .values()
            .map(|authority| status(authority))
            .collect()
    }

    async fn active_issuer(
        &self,
        record: &AuthorityRecord,
        last: &Map,
    ) -> Result<Arc<Issuer>, String> {
        let issuer = record
            .issuers
            .iter()
            .rfind(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active)
            .ok_or("it has no active issuing CA: run `rootbridge ca init`, or `ca request` and `ca import`")?;
        let row = issuer
            .certificates
            .iter()
            .rfind(|certificate| certificate.state == IssuerState::Active)
            .ok_or("its issuing CA has no certificate: run `rootbridge ca import`")?;
        if let Some(Ok(known)) = last.get(&record.trust_domain).map(|a| a.issuer.as_ref())
            && *known.id() == issuer.id
            && known.certificate_id() == row.id
        {
            return Ok(Arc::clone(known));
        }
        let parse = |der: &[u8]| {
            Certificate::parse(der).map_err(|e| format!("its issuing certificate: {e}"))
        };
        let certificate = parse(&row.der)?;
        let path = row
            .path
            .iter()
            .map(|der| parse(der))
            .collect::<Result<Vec<_>, _>>()?;
        let key = self
            .key(issuer, &issuer.id, certificate.public_key())
            .await?;
        Ok(Arc::new(Issuer::new(
            issuer.id.clone(),
            key,
            certificate,
            row.id,
            path,
        )))
    }

    async fn key(
        &self,
        issuer: &IssuerRecord,
        id: &IssuerId,
        public: &PublicKey,
    ) -> Result<Key, String> {
        let mut why = format!("the key of issuer {id} has no place in a token");
        for place in &issuer.locations {
            let found = match self.hsm.token(&place.token) {
                Ok(token) => token.key(&place.key_id, public).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(key) => return Ok(key),
                Err(error) => {
                    why = format!("the key of issuer {id} in token `{}`: {error}", place.token)
                }
            }
        }
        Err(why)
    }

    fn taken(&self, records: &Snapshot) -> HashSet<[u8; 32]> {
        let mut taken = self
            .own_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for authority in &records.authorities {
            let issuers = authority
                .issuers
                .iter()
                .filter_map(|issuer| PublicKey::from_spki_der(&issuer.public_key).ok());
            taken.extend(issuers.map(|key| key.fingerprint()));
            let anchors = authority
                .anchors
                .iter()
                .filter_map(|anchor| Certificate::parse(anchor.der.as_slice()).ok());
            taken.extend(anchors.map(|anchor| anchor.public_key().fingerprint()));
        }
        taken
    }
}

fn own_name(caller: &Caller) -> Option<&crate::x509::SpiffeId> {
    match &caller.identity {
        Identity::Workload(id) => Some(id),
        _ => None,
    }
}

fn bundle(record: &AuthorityRecord) -> Option<Arc<TrustBundle>> {
    let published = record.bundle.as_ref()?;
    let anchors = published.anchors.clone();
    match TrustBundle::new(record.trust_domain.clone(), published.sequence, anchors) {
        Ok(bundle) => Some(Arc::new(bundle)),
        Err(error) => {
            tracing::error!(trust_domain = %record.trust_domain, %error, "the recorded bundle is invalid");
            None
        }
    }
}

fn status(authority: &Authority) -> AuthorityStatus {
    let issuer = authority.issuer.as_ref();
    let not_after = issuer.ok().map(|issuer| issuer.certificate().not_after());
    AuthorityStatus {
        trust_domain: authority.trust_domain.to_string(),
        issuer: issuer.ok().map(|issuer| issuer.id().to_string()),
        why: issuer.err().cloned(),
        issuer_not_after: not_after.map(|at| at.to_string()),
        issuer_not_after_secs: not_after.map(UnixTime::secs),
        bundle_sequence: authority.bundle.as_ref().map(|bundle| bundle.sequence()),
    }
}

fn log_issued(request: &LeafRequest, issued: &Issued) {
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
