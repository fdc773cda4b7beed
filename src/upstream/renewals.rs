//! Follows the ledger and takes the request of every authority one step further when it is due.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::metrics::Metrics;
use super::retirement::retirable;
use super::schedule::{after_refusals, renewal};
use super::status::{OpenRequest, RequestStatus, Statuses, times};
use super::step::{Authority, Step, Worker};
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Ceremony, WorkLeases, active_path, active_row};
use crate::ledger::{
    AuthorityRecord, CaRequestState, Claim, Ledger, LedgerError, RotationKind, RotationPhase,
    RotationRecord, WorkLease,
};
use crate::x509::TrustDomain;

/// How often the ledger's revision is read: one row, in memory.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often the records are read although none has changed.
const LOOK: Duration = Duration::from_secs(10);
/// What only one of the servers that share a ledger does.
const WORK: &str = "upstream";
/// How often it is looked whether the server that does the renewals is gone.
const TAKE_OVER: Duration = Duration::from_secs(2);
/// The pause after a step that failed without a record of it.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether a replaced issuing CA can be retired.
const RETIREMENT: Duration = Duration::from_secs(30);
/// How many authorities ask their upstream CAs at the same time.
const AT_ONCE: usize = 8;

/// What renewals need of the server.
#[derive(Debug)]
pub struct Parts {
    /// This server's name among those that share the ledger.
    pub instance: String,
    pub ceremony: Ceremony,
    /// Of the servers that share the ledger, one does the renewals.
    pub leases: WorkLeases,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub statuses: Arc<Statuses>,
}

/// The renewals of all authorities with an upstream CA.
#[derive(Debug)]
pub struct Renewals {
    worker: Worker,
    leases: WorkLeases,
    statuses: Arc<Statuses>,
    authorities: Vec<Arc<Authority>>,
    places: Arc<Semaphore>,
    /// The revision at which an answer that waits was examined last.
    examined: BTreeMap<TrustDomain, u64>,
    busy: HashSet<TrustDomain>,
    known: BTreeMap<TrustDomain, Known>,
    /// Rotations to a new root of an upstream CA that are open.
    rotations: BTreeMap<TrustDomain, RotationRecord>,
    /// When an authority is tried again whose last step failed without a record of it.
    not_before: BTreeMap<TrustDomain, UnixTime>,
    /// When it is looked again whether a replaced issuing CA can be retired.
    retire_at: BTreeMap<TrustDomain, UnixTime>,
    /// When this server claims the renewals again, after a step failed here.
    claims_at: Option<UnixTime>,
    seen: Option<u64>,
    look_at: Option<UnixTime>,
    failing: bool,
}

impl Renewals {
    pub fn new(config: &Config, parts: Parts) -> Self {
        let authorities = config.pairs().map(|(authority, upstream)| {
            parts.metrics.begin(upstream.name());
            Arc::new(Authority {
                config: authority.clone(),
                upstream: upstream.clone(),
                ca: upstream.connect(),
            })
        });
        Self {
            authorities: authorities.collect(),
            statuses: parts.statuses,
            leases: parts.leases,
            worker: Worker {
                instance: parts.instance,
                ceremony: parts.ceremony,
                ledger: parts.ledger,
                clock: parts.clock,
                metrics: parts.metrics,
                lease: None,
            },
            places: Arc::new(Semaphore::new(AT_ONCE)),
            examined: BTreeMap::new(),
            busy: HashSet::new(),
            known: BTreeMap::new(),
            rotations: BTreeMap::new(),
            not_before: BTreeMap::new(),
            retire_at: BTreeMap::new(),
            claims_at: None,
            seen: None,
            look_at: None,
            failing: false,
        }
    }

    /// Follows until `stop`. A step that has begun is finished by the next run: it is on record.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.authorities.is_empty() {
            return;
        }
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut steps = JoinSet::<(TrustDomain, bool)>::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = steps.join_next(), if !steps.is_empty() => {
                    match done {
                        Ok((domain, is_recorded)) => {
                            self.busy.remove(&domain);
                            if !is_recorded {
                                let at = self.worker.clock.now().plus(PAUSE);
                                self.not_before.insert(domain, at);
                                // Another server may have a token that works; steps under way go on.
                                if self.busy.is_empty() {
                                    self.claims_at = Some(at);
                                    self.leases.give_up(WORK).await;
                                }
                            }
                        }
                        // Which authority it was is unknown: all are looked at.
                        Err(_) => self.busy.clear(),
                    }
                    self.look_at = None;
                }
                _ = interval.tick() => match self.look(&mut steps).await {
                    Ok(()) => self.failing = false,
                    Err(error) if !self.failing => {
                        self.failing = true;
                        tracing::warn!(event = "upstream.ledger", %error, "renewals wait for the ledger");
                    }
                    Err(_) => {}
                },
            }
        }
    }

    async fn look(&mut self, steps: &mut JoinSet<(TrustDomain, bool)>) -> Result<(), LedgerError> {
        let revision = self.worker.ledger.revision().await?;
        let now = self.worker.clock.now();
        let is_due = self.look_at.is_none_or(|at| now >= at);
        if self.seen == Some(revision) && !is_due {
            return Ok(());
        }
        let records = self.worker.ledger.snapshot().await?;
        let revision = records.revision;
        self.rotations = rotations(self.worker.ledger.as_ref()).await?;
        let mut records: HashMap<_, _> = records
            .authorities
            .into_iter()
            .map(|record| (record.trust_domain.clone(), record))
            .collect();
        let mut look_at = now.plus(LOOK);
        let lease = self.lease(now).await?;
        if lease.is_none() {
            look_at = now.plus(TAKE_OVER);
        }
        for authority in self.authorities.clone() {
            let domain = authority.config.trust_domain();
            self.learn(&authority, records.remove(domain));
            self.show(&authority, now);
            if self.busy.contains(domain) {
                continue;
            }
            if let Some(at) = self.not_before.get(domain).filter(|at| now < **at) {
                look_at = look_at.min(*at);
                continue;
            }
            let Some(lease) = &lease else { continue };
            match self.next(&authority, revision, now) {
                Next::At(at) => look_at = look_at.min(at),
                Next::Now(step) => {
                    self.busy.insert(domain.clone());
                    self.examined.insert(domain.clone(), revision);
                    if matches!(step, Step::Retire(_)) {
                        self.retire_at.insert(domain.clone(), now.plus(RETIREMENT));
                    }
                    let (worker, places) =
                        (self.worker.under(lease.clone()), Arc::clone(&self.places));
                    steps.spawn(async move {
                        let _place = places.acquire_owned().await;
                        let is_recorded = worker.run(&authority, step).await;
                        (authority.config.trust_domain().clone(), is_recorded)
                    });
                }
            }
        }
        self.seen = Some(revision);
        self.look_at = Some(look_at);
        Ok(())
    }

    /// The lease of this server on all renewals, if it has it.
    async fn lease(&self, now: UnixTime) -> Result<Option<WorkLease>, LedgerError> {
        if self.claims_at.is_some_and(|at| now < at) {
            return Ok(None);
        }
        Ok(match self.leases.claim(WORK).await? {
            Claim::Held(lease) => Some(lease),
            Claim::HeldBy(_) => None,
        })
    }

    /// Keeps what is on record of an authority. What follows from it is computed again if it has changed.
    fn learn(&mut self, authority: &Authority, record: Option<AuthorityRecord>) {
        let domain = authority.config.trust_domain();
        match record {
            None => drop(self.known.remove(domain)),
            Some(record) => {
                let known = self.known.get(domain);
                if known.is_none_or(|known| known.record != record) {
                    let due = due(authority, &record);
                    self.known.insert(domain.clone(), Known { record, due });
                }
            }
        }
    }

    /// What an authority needs next.
    fn next(&self, authority: &Authority, revision: u64, now: UnixTime) -> Next {
        let domain = authority.config.trust_domain();
        let Some(Known { record, due }) = self.known.get(domain) else {
            return Next::Now(Step::Begin);
        };
        if let Some(open) = record.open_request() {
            let changed = open.state == CaRequestState::Received
                && self.examined.get(domain) != Some(&revision);
            // Only the holder of the lease makes attempts, and this one makes none now: the server
            // that began it has died or has lost the lease.
            let abandoned = open.attempt_by.is_some();
            return match changed || abandoned || now >= open.next_attempt_at {
                true => Next::Now(Step::Continue(Box::new(open.clone()))),
                false => Next::At(open.next_attempt_at),
            };
        }
        match self
            .rotations
            .get(domain)
            .map(|rotation| wants(rotation, record))
        {
            // The next request is for what it brings.
            Some(Wants::Nothing) => return Next::At(now.plus(LOOK)),
            Some(Wants::Certificate) => {
                let pause = authority.upstream.after_refusal;
                return match after_refusals(&record.requests, pause) {
                    Some(at) if now < at => Next::At(at),
                    _ => Next::Now(Step::Begin),
                };
            }
            Some(Wants::Renewals) | None => {}
        }
        if due.is_none_or(|due| now >= due) {
            return Next::Now(Step::Begin);
        }
        let retires = self.retire_at.get(domain).is_none_or(|at| now >= *at);
        match retirable(record, now).first().filter(|_| retires) {
            Some(old) => Next::Now(Step::Retire(old.id.clone())),
            None => Next::At(due.unwrap_or(now)),
        }
    }

    fn show(&self, authority: &Authority, now: UnixTime) {
        let known = self.known.get(authority.config.trust_domain());
        let record = known.map(|known| &known.record);
        let open = record.and_then(AuthorityRecord::open_request);
        let due = known.filter(|_| open.is_none()).and_then(|known| known.due);
        let (renewal_at, renewal_at_secs) = times(due);
        let last = record.and_then(|record| record.requests.last());
        let refused = last.filter(|last| {
            matches!(
                last.state,
                CaRequestState::Refused | CaRequestState::Cancelled
            )
        });
        let status = RequestStatus {
            trust_domain: authority.config.trust_domain().to_string(),
            upstream: authority.upstream.name().to_owned(),
            renewal_at,
            renewal_at_secs,
            request: open.map(OpenRequest::of),
            last_refusal: refused.and_then(|last| last.problem.clone()),
        };
        self.worker.metrics.show(&status, now);
        self.statuses.set(status);
    }
}

/// What is on record of an authority.
#[derive(Debug)]
struct Known {
    record: AuthorityRecord,
    /// When the next request begins, if none is open; `None` for now.
    due: Option<UnixTime>,
}

enum Next {
    Now(Step),
    /// Nothing before.
    At(UnixTime),
}

/// What a rotation to a new root of the upstream CA needs of it.
enum Wants {
    /// A certificate for a new key, although none is due.
    Certificate,
    /// It has one, which signs later.
    Nothing,
    /// As without a rotation.
    Renewals,
}

fn wants(rotation: &RotationRecord, record: &AuthorityRecord) -> Wants {
    let signing = active_row(record).map(|(issuer, _)| &issuer.id);
    match (rotation.phase, &rotation.parts.new_issuer) {
        (RotationPhase::Prepare, None) if signing == rotation.parts.old_issuer.as_ref() => {
            Wants::Certificate
        }
        (RotationPhase::Prepare, None) => Wants::Renewals,
        (phase, _) if phase < RotationPhase::Activate => Wants::Nothing,
        _ => Wants::Renewals,
    }
}

async fn rotations(
    ledger: &dyn Ledger,
) -> Result<BTreeMap<TrustDomain, RotationRecord>, LedgerError> {
    let all = ledger.rotations().await?.into_iter().filter(|rotation| {
        rotation.kind == RotationKind::UpstreamRoot
            && rotation.phase.is_open()
            && !rotation.backwards
    });
    Ok(all
        .map(|rotation| (rotation.trust_domain.clone(), rotation))
        .collect())
}

/// When the next request begins; `None` for now.
fn due(authority: &Authority, record: &AuthorityRecord) -> Option<UnixTime> {
    let path = active_path(record).ok();
    let since = active_row(record).map(|(_, row)| row.added_at);
    let renewal = path
        .zip(since)
        .and_then(|(path, since)| renewal(&path, since, authority.config.renew_at));
    let refused = after_refusals(&record.requests, authority.upstream.after_refusal);
    renewal.into_iter().chain(refused).max()
}
