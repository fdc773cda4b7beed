//! Rotations: moves the change of a root or an issuing CA from phase to phase.
//!
//! Where a rotation is, is in the ledger; what holds it back is computed each time from the records, the
//! published bundles and the clusters, by [`trust::rotation`](crate::trust::rotation). So a server that
//! starts after another died goes on where that one was. A move and what it changes are one transaction.

mod arriving;
mod compromised;
mod config;
mod error;
mod evidence;
mod gone;
mod holding;
mod merge;
mod metrics;
mod moves;
mod reported;
mod reports;
mod run;
mod start;
mod status;
mod upstream_root;
mod verifiers;
mod watchers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use compromised::{Compromise, Holder, Remedy};
pub use config::{Config, RawConfig};
pub use error::RotationError;
pub use holding::Holding;
pub use metrics::Metrics;
pub use reported::{Reported, ReportedState, ReportedTarget};
pub use start::StartOptions;
pub use status::{RotationStatus, StepStatus};
pub use watchers::{RawWatcher, WatcherConfig, WatcherError, Watchers};

use crate::clock::{Clock, UnixTime};
use crate::issuance::{Authorities, Ceremony, WorkLeases};
use crate::ledger::{
    Actor, Ledger, LedgerError, RotationKind, RotationPhase, RotationRecord, ServerReport, Snapshot,
};
use crate::trust::rotation::{Position, ProxyEvidence, Verdict, back, forward};
use crate::trust::{Bundles, Distribution};
use crate::x509::{TrustBundle, TrustDomain};

/// One target in one cluster, as configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfiguredTarget {
    pub cluster: String,
    pub target: String,
    pub trust_domain: TrustDomain,
}

/// Counts the proxies of a trust domain that were started with older roots.
pub type CountProxies = Box<dyn Fn(&TrustDomain) -> Vec<ProxyEvidence> + Send + Sync>;

/// Why targets cannot hold a bundle.
pub type FitsTargets = Box<dyn Fn(&TrustBundle) -> Vec<String> + Send + Sync>;

/// A ceremony on behalf of an actor.
pub type CeremonyFor = Box<dyn Fn(Actor) -> Ceremony + Send + Sync>;

/// What rotations need of the server.
pub struct Parts {
    pub config: Config,
    /// This server's name.
    pub instance: String,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub ceremony: CeremonyFor,
    /// Of the servers that share the ledger, one makes the keys of a rotation.
    pub leases: WorkLeases,
    pub authorities: Arc<Authorities>,
    pub bundles: Arc<Bundles>,
    pub distribution: Arc<Distribution>,
    pub targets: Vec<ConfiguredTarget>,
    pub proxies: CountProxies,
    pub fits: FitsTargets,
    pub watchers: Vec<WatcherConfig>,
    pub metrics: Metrics,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The rotations of all authorities.
#[derive(Debug)]
pub struct Rotations {
    parts: Parts,
    /// Since when each target holds what it holds.
    holding: Mutex<Holding>,
    /// Why the last attempt to make keys and certificates failed, and when it was.
    failures: Mutex<BTreeMap<i64, (UnixTime, String)>>,
    /// What this server has told the others.
    reported: Mutex<BTreeMap<TrustDomain, ServerReport>>,
    /// One move at a time: each reads what it decides on.
    moving: tokio::sync::Mutex<()>,
}

impl Rotations {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            holding: Mutex::default(),
            failures: Mutex::default(),
            reported: Mutex::default(),
            moving: tokio::sync::Mutex::default(),
        }
    }

    /// Every rotation on record, oldest first, and what holds an open one back.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn status(&self) -> Result<Vec<RotationStatus>, RotationError> {
        let records = self.parts.ledger.snapshot().await?;
        let mut all = Vec::new();
        for rotation in self.parts.ledger.rotations().await? {
            let verdict = match rotation.phase.is_open() {
                true => self.next(&rotation, &records).await?,
                false => None,
            };
            all.push(RotationStatus::new(&rotation, verdict));
        }
        Ok(all)
    }

    /// Makes the next move of a trust domain's rotation. With a reason it is made although something
    /// holds it back, as far as that is possible; the reason is recorded.
    ///
    /// # Errors
    /// [`RotationError::Held`] names all that holds it back.
    pub async fn advance(
        &self,
        domain: &TrustDomain,
        force: Option<&str>,
        by: &Actor,
    ) -> Result<RotationPhase, RotationError> {
        let _turn = self.moving.lock().await;
        let (rotation, records) = self.open(domain).await?;
        let verdict = self.next(&rotation, &records).await?;
        let verdict = verdict.ok_or_else(|| RotationError::NoneOpen(domain.clone()))?;
        self.make(&rotation, &records, verdict, force, by).await
    }

    /// Turns a trust domain's rotation around.
    ///
    /// # Errors
    /// It is too late, or what signed before cannot sign again.
    pub async fn back(
        &self,
        domain: &TrustDomain,
        reason: &str,
        by: &Actor,
    ) -> Result<RotationPhase, RotationError> {
        let _turn = self.moving.lock().await;
        let (rotation, records) = self.open(domain).await?;
        let evidence = self.evidence(&rotation, &records).await?;
        let verdict = back(&position(&rotation), &evidence)?;
        tracing::warn!(
            trust_domain = %domain, rotation = %rotation.id, by = by.name, reason,
            "the rotation goes back"
        );
        self.make(&rotation, &records, verdict, None, by).await
    }

    async fn open(
        &self,
        domain: &TrustDomain,
    ) -> Result<(RotationRecord, Snapshot), RotationError> {
        let rotations = self.parts.ledger.rotations().await?;
        let open = rotations
            .into_iter()
            .find(|each| each.trust_domain == *domain && each.phase.is_open());
        let open = open.ok_or_else(|| RotationError::NoneOpen(domain.clone()))?;
        Ok((open, self.parts.ledger.snapshot().await?))
    }

    async fn next(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
    ) -> Result<Option<Verdict>, LedgerError> {
        let evidence = self.evidence(rotation, records).await?;
        Ok(forward(&position(rotation), &evidence))
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reported(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, ServerReport>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<i64, (UnixTime, String)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(rotation: &RotationRecord) -> Position {
    let replaces = rotation.kind != RotationKind::RootLeaves;
    Position {
        kind: rotation.kind,
        phase: rotation.phase,
        backwards: rotation.backwards,
        changes_roots: !replaces || rotation.parts.changes_roots(),
    }
}
