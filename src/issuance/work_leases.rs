//! The work that only one of the servers of a ledger may do, and whether this one does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::epoch::EpochManager;
use crate::ledger::{Claim, ClaimFrom, Epoch, Ledger, LedgerError, WorkLease};

/// How long another server's lease is taken to be still its own.
const LOOK: Duration = Duration::from_secs(1);

/// Claims leases for this server. Cheap to clone.
///
/// An answer is used for a while: what is done on an old one is refused by the ledger, because every
/// write carries the lease's fence.
#[derive(Debug, Clone)]
pub struct WorkLeases {
    ledger: Arc<dyn Ledger>,
    epochs: Arc<EpochManager>,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

#[derive(Debug, Clone)]
struct Known {
    claim: Claim,
    epoch: Epoch,
    at: Instant,
}

impl WorkLeases {
    pub(super) fn new(ledger: Arc<dyn Ledger>, epochs: Arc<EpochManager>) -> Self {
        let known = Arc::default();
        Self {
            ledger,
            epochs,
            known,
        }
    }

    /// The lease on `work`, if this server has it or nobody alive has.
    ///
    /// # Errors
    /// Those of [`Ledger::claim`].
    pub async fn claim(&self, work: &str) -> Result<Claim, LedgerError> {
        let epoch = self.epochs.epoch();
        let known = self.known().get(work).cloned();
        if let Some(known) = known.filter(|known| known.epoch == epoch) {
            let for_long = match known.claim {
                Claim::Held(_) => self.epochs.lease() / 6,
                Claim::HeldBy(_) => LOOK,
            };
            if known.at.elapsed() < for_long {
                return Ok(known.claim);
            }
        }
        self.ask(work, ClaimFrom::TheDead, epoch).await
    }

    /// The lease on `work`, taken from any holder: for a server that something else has elected.
    ///
    /// # Errors
    /// Those of [`Ledger::claim`].
    pub async fn seize(&self, work: &str) -> Result<WorkLease, LedgerError> {
        let epoch = self.epochs.epoch();
        match self.ask(work, ClaimFrom::Anyone, epoch).await? {
            Claim::Held(lease) => Ok(lease),
            Claim::HeldBy(holder) => Err(LedgerError::LeaseLost {
                work: work.to_owned(),
                holder,
            }),
        }
    }

    /// Asks the ledger whether a lease still has its holder, before something outside of it is written.
    ///
    /// # Errors
    /// [`LedgerError::LeaseLost`].
    pub async fn require(&self, lease: &WorkLease) -> Result<(), LedgerError> {
        self.ledger.require(lease).await
    }

    /// The works that this server does, by name.
    pub fn held(&self) -> Vec<String> {
        let known = self.known();
        let held = known
            .iter()
            .filter(|(_, known)| matches!(known.claim, Claim::Held(_)));
        held.map(|(work, _)| work.clone()).collect()
    }

    /// Lets others take a lease, if this server has it.
    pub async fn give_up(&self, work: &str) {
        let known = self.known().remove(work);
        if let Some(Claim::Held(lease)) = known.map(|known| known.claim)
            && let Err(error) = self.ledger.give_up(&lease).await
        {
            tracing::debug!(work, %error, "a lease was not given up");
        }
    }

    /// Lets others take all leases.
    pub async fn give_up_all(&self) {
        for work in self.held() {
            self.give_up(&work).await;
        }
    }

    async fn ask(&self, work: &str, from: ClaimFrom, epoch: Epoch) -> Result<Claim, LedgerError> {
        let at = Instant::now();
        let now = self.epochs.lease_time().await?;
        let claim = self.ledger.claim(work, from, &epoch, now).await?;
        let known = Known {
            claim: claim.clone(),
            epoch,
            at,
        };
        let before = self.known().insert(work.to_owned(), known);
        let before = before.map(|known| known.claim);
        match &claim {
            _ if before.as_ref() == Some(&claim) => {}
            Claim::Held(lease) => {
                tracing::info!(work, fence = lease.fence, "this server does this work now");
            }
            Claim::HeldBy(holder) if matches!(before, Some(Claim::Held(_))) => {
                tracing::warn!(work, holder, "another server has taken this work over");
            }
            Claim::HeldBy(holder) => tracing::info!(work, holder, "another server does this work"),
        }
        Ok(claim)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
