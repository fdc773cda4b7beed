//! The boot epoch that this process works in, and what it still owes the ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::ledger::{Epoch, IntentId, Ledger, LedgerError, Outcome};

/// How often a ledger that is out is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// One epoch and the walks that were begun in it.
#[derive(Debug)]
pub(super) struct Shift {
    pub(super) epoch: Epoch,
    pub(super) tasks: TaskTracker,
}

/// Keeps the lease, and puts the ledger right after an outage.
///
/// A ledger that failed may hold intents that this process does not know of (the commit went
/// through, its answer did not). They cannot be told from work in flight, so the process takes a
/// new epoch, lets the walks of the old one end, and only then reconciles what they left open.
#[derive(Debug)]
pub(super) struct Shifts {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    current: ArcSwap<Shift>,
    owed: Mutex<Vec<(IntentId, Outcome)>>,
    outage: Notify,
}

impl Shifts {
    pub(super) async fn begin(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        instance: &str,
        lease: Duration,
    ) -> Result<Self, LedgerError> {
        let epoch = ledger.register(instance, lease, clock.now()).await?;
        let current = ArcSwap::from_pointee(Shift {
            epoch,
            tasks: TaskTracker::new(),
        });
        let owed = Mutex::default();
        Ok(Self {
            ledger,
            clock,
            lease,
            current,
            owed,
            outage: Notify::new(),
        })
    }

    pub(super) fn current(&self) -> Arc<Shift> {
        self.current.load_full()
    }

    /// A conclusion that the ledger did not take: it is brought again until it does.
    pub(super) fn owe(&self, intent: IntentId, outcome: Outcome) {
        self.owed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((intent, outcome));
        self.outage.notify_one();
    }

    /// The ledger failed in a way that may have left an intent behind.
    pub(super) fn outage(&self) {
        self.outage.notify_one();
    }

    /// Conclusions that the ledger has yet to take.
    pub(super) fn owed(&self) -> usize {
        self.owed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Reconciles what earlier epochs left, then keeps the lease until `stop`.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        self.reconcile().await;
        let mut lease = tokio::time::interval(self.lease / 3);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.outage.notified() => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.recover() => {}
                    }
                }
                _ = lease.tick() => {
                    let epoch = &self.current().epoch;
                    match self.ledger.renew(epoch, self.clock.now()).await {
                        Ok(()) => self.reconcile().await,
                        Err(error) => tracing::warn!(%error, "the lease was not renewed"),
                    }
                }
            }
        }
    }

    /// Pays what is owed and turns to a new epoch; returns when the ledger has taken it all.
    async fn recover(&self) {
        loop {
            match self.try_recover().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "the ledger is not back yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_recover(&self) -> Result<(), LedgerError> {
        let instance = self.current().epoch.instance.clone();
        let epoch = self
            .ledger
            .register(&instance, self.lease, self.clock.now())
            .await?;
        tracing::info!(boot = epoch.boot, "the ledger is back: a new epoch begins");
        let next = Arc::new(Shift {
            epoch,
            tasks: TaskTracker::new(),
        });
        let last = self.current.swap(next);
        last.tasks.close();
        last.tasks.wait().await;
        self.pay().await?;
        self.reconcile().await;
        Ok(())
    }

    async fn pay(&self) -> Result<(), LedgerError> {
        loop {
            let next = self
                .owed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some((intent, outcome)) = next else {
                return Ok(());
            };
            match self.ledger.conclude(intent, outcome.clone()).await {
                // Somebody with a right to judge was first: his word stands.
                Ok(()) | Err(LedgerError::AlreadyConcluded { .. }) => {}
                Err(error) => {
                    self.owed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((intent, outcome));
                    return Err(error);
                }
            }
        }
    }

    async fn reconcile(&self) {
        match self
            .ledger
            .reconcile(&self.current().epoch, self.clock.now())
            .await
        {
            Ok(0) => {}
            Ok(left) => tracing::warn!(left, "intents without an outcome are now `unknown`"),
            Err(error) => tracing::warn!(%error, "open intents were not reconciled"),
        }
    }
}
