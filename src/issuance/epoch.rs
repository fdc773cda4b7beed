//! The epoch that this process records intents in, and the outcomes that the ledger has not
//! accepted yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::lease_time::lease_time;
use crate::clock::{Clock, UnixTime};
use crate::ledger::{Epoch, IntentId, Ledger, LedgerError, Outcome};

/// The pause between attempts to reach an unavailable ledger.
const RETRY: Duration = Duration::from_millis(500);

/// An epoch and the requests that were started in it.
#[derive(Debug)]
struct ActiveEpoch {
    epoch: Epoch,
    requests: TaskTracker,
}

impl ActiveEpoch {
    fn new(epoch: Epoch) -> Arc<Self> {
        let requests = TaskTracker::new();
        Arc::new(Self { epoch, requests })
    }
}

/// A request in flight. While it exists, this process does not reconcile the intents of its epoch.
#[derive(Debug)]
pub(super) struct InFlight {
    epoch: Epoch,
    _in_epoch: TaskTrackerToken,
    _in_process: TaskTrackerToken,
}

impl InFlight {
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

/// Renews the lease, and brings the ledger up to date after an outage.
///
/// A ledger that failed may hold intents that this process does not know of: the commit succeeded,
/// its response was lost. They look like requests in flight. The process therefore starts a new
/// epoch, waits for the requests of the old one, and then reconciles what they left open.
#[derive(Debug)]
pub(super) struct EpochManager {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    current: Mutex<Arc<ActiveEpoch>>,
    /// The requests of every epoch of this process.
    requests: TaskTracker,
    queued: Mutex<Vec<(IntentId, Outcome)>>,
    outage: Notify,
    unavailable: AtomicBool,
}

impl EpochManager {
    pub(super) async fn register(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        instance: &str,
        lease: Duration,
    ) -> Result<Self, LedgerError> {
        let now = lease_time(ledger.as_ref(), clock.as_ref(), lease).await?;
        let epoch = ledger.register(instance, lease, now).await?;
        Ok(Self {
            ledger,
            clock,
            lease,
            current: Mutex::new(ActiveEpoch::new(epoch)),
            requests: TaskTracker::new(),
            queued: Mutex::default(),
            outage: Notify::new(),
            unavailable: AtomicBool::new(false),
        })
    }

    /// Starts a request in the active epoch. The lock makes this atomic: either the epoch's end
    /// waits for the request, or the request is in the next epoch.
    pub(super) fn begin(&self) -> InFlight {
        let current = lock(&self.current);
        InFlight {
            epoch: current.epoch.clone(),
            _in_epoch: current.requests.token(),
            _in_process: self.requests.token(),
        }
    }

    /// Waits until no request is in flight and no outcome is queued.
    pub(super) async fn drain(&self) {
        self.requests.close();
        self.requests.wait().await;
        while self.queued_outcomes() > 0 {
            tokio::time::sleep(RETRY / 10).await;
        }
    }

    /// Queues an outcome to be written when the ledger is available again.
    pub(super) fn queue_outcome(&self, intent: IntentId, outcome: Outcome) {
        lock(&self.queued).push((intent, outcome));
        self.report_outage();
    }

    /// Reports a ledger failure that may have left an intent behind.
    pub(super) fn report_outage(&self) {
        if !self.unavailable.swap(true, Ordering::Relaxed) {
            tracing::warn!("the ledger accepts no records: nothing is signed until it does");
        }
        self.outage.notify_one();
    }

    pub(super) fn ledger_unavailable(&self) -> bool {
        self.unavailable.load(Ordering::Relaxed)
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn queued_outcomes(&self) -> usize {
        lock(&self.queued).len()
    }

    /// Reconciles what earlier epochs left open, and renews the lease, until `stop`.
    pub(super) async fn maintain(&self, stop: CancellationToken) {
        // Two loops: a request that hangs in the HSM delays reconciliation, never the lease.
        let loops = async { tokio::join!(self.renew_lease(), self.reconcile_and_recover()) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = loops => {}
        }
    }

    async fn renew_lease(&self) {
        let mut interval = tokio::time::interval(self.lease / 3);
        loop {
            interval.tick().await;
            let epoch = self.epoch();
            let renewed = async { self.ledger.renew(&epoch, self.lease_time().await?).await };
            if let Err(error) = renewed.await
                // A new epoch may have started meanwhile.
                && epoch == self.epoch()
            {
                tracing::warn!(%error, "the lease was not renewed");
                if error.is_outage() {
                    self.report_outage();
                }
            }
        }
    }

    async fn reconcile_and_recover(&self) {
        let mut interval = tokio::time::interval(self.lease / 3);
        loop {
            tokio::select! {
                () = self.outage.notified() => self.recover().await,
                _ = interval.tick() => self.reconcile().await,
            }
        }
    }

    /// Retries [`Self::try_recover`] until it succeeds.
    async fn recover(&self) {
        let mut ended = Vec::new();
        while let Err(error) = self.try_recover(&mut ended).await {
            tracing::debug!(%error, "the ledger is still unavailable");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Starts a new epoch, writes the queued outcomes, and reconciles what the old epoch left
    /// open. `ended` collects the epochs that this and earlier attempts ended.
    async fn try_recover(&self, ended: &mut Vec<Arc<ActiveEpoch>>) -> Result<(), LedgerError> {
        let instance = self.epoch().instance;
        let now = self.lease_time().await?;
        let epoch = self.ledger.register(&instance, self.lease, now).await?;
        tracing::info!(
            boot = epoch.boot,
            "the ledger is available again: a new epoch starts"
        );
        let next = ActiveEpoch::new(epoch);
        ended.push(std::mem::replace(&mut *lock(&self.current), next));
        self.write_queued().await?;
        self.unavailable.store(false, Ordering::Relaxed);
        for epoch in ended {
            epoch.requests.close();
            // The outcome of a request that hangs in the HSM is unknown. After one lease it is
            // reconciled like a dead process's, and its own outcome comes too late.
            let _ = tokio::time::timeout(self.lease, epoch.requests.wait()).await;
        }
        self.write_queued().await?;
        self.reconcile().await;
        Ok(())
    }

    async fn write_queued(&self) -> Result<(), LedgerError> {
        loop {
            // An outcome stays queued until it is written, so that a drain waits for it.
            let Some((intent, outcome)) = lock(&self.queued).last().cloned() else {
                return Ok(());
            };
            match self.ledger.conclude(intent, outcome).await {
                Err(error) if error.is_outage() => return Err(error),
                // A reconciler was first: its outcome counts.
                Ok(()) | Err(LedgerError::AlreadyConcluded { .. }) => {}
                Err(error) => tracing::error!(%intent, %error, "an outcome cannot be recorded"),
            }
            lock(&self.queued).retain(|(queued, _)| *queued != intent);
        }
    }

    async fn reconcile(&self) {
        let reconciled = async {
            let now = self.lease_time().await?;
            self.ledger.reconcile(&self.epoch(), now).await
        };
        match reconciled.await {
            Ok(0) => {}
            Ok(left) => tracing::warn!(left, "intents without an outcome are now `unknown`"),
            Err(error) => tracing::warn!(%error, "open intents were not reconciled"),
        }
    }

    pub(super) async fn lease_time(&self) -> Result<UnixTime, LedgerError> {
        lease_time(self.ledger.as_ref(), self.clock.as_ref(), self.lease).await
    }

    pub(super) fn epoch(&self) -> Epoch {
        lock(&self.current).epoch.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
