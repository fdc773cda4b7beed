//! The boot epoch that this process works in, and what it still owes the ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::clock::Clock;
use crate::ledger::{Epoch, IntentId, Ledger, LedgerError, Outcome};

/// How often a ledger that is out is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// One epoch and the walks that were begun in it.
#[derive(Debug)]
struct ActiveEpoch {
    epoch: Epoch,
    walks: TaskTracker,
}

impl ActiveEpoch {
    fn new(epoch: Epoch) -> Arc<Self> {
        let walks = TaskTracker::new();
        Arc::new(Self { epoch, walks })
    }
}

/// A walk's place in an epoch. While it is held, nobody reconciles what the epoch left open.
#[derive(Debug)]
pub(super) struct InFlight {
    epoch: Epoch,
    _in_shift: TaskTrackerToken,
    _in_process: TaskTrackerToken,
}

impl InFlight {
    /// The epoch that the walk's intent belongs to.
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

/// Keeps the lease, and puts the ledger right after an outage.
///
/// A ledger that failed may hold intents that this process does not know of (the commit went
/// through, its answer did not). They cannot be told from work in flight, so the process takes a
/// new epoch, lets the walks of the old one end, and only then reconciles what they left open.
#[derive(Debug)]
pub(super) struct EpochManager {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    current: Mutex<Arc<ActiveEpoch>>,
    /// Every walk of this process, whatever its epoch.
    walks: TaskTracker,
    queued: Mutex<Vec<(IntentId, Outcome)>>,
    outage: Notify,
    out: AtomicBool,
}

impl EpochManager {
    pub(super) async fn register(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        instance: &str,
        lease: Duration,
    ) -> Result<Self, LedgerError> {
        let epoch = ledger.register(instance, lease, clock.now()).await?;
        Ok(Self {
            ledger,
            clock,
            lease,
            current: Mutex::new(ActiveEpoch::new(epoch)),
            walks: TaskTracker::new(),
            queued: Mutex::default(),
            outage: Notify::new(),
            out: AtomicBool::new(false),
        })
    }

    /// Begins a walk in the current epoch. The lock makes it one step: a walk is in an epoch
    /// before the epoch ends, and then it is waited for, or it is in the next one.
    pub(super) fn begin(&self) -> InFlight {
        let current = lock(&self.current);
        InFlight {
            epoch: current.epoch.clone(),
            _in_shift: current.walks.token(),
            _in_process: self.walks.token(),
        }
    }

    /// Waits until every walk has ended and nothing is owed.
    pub(super) async fn drain(&self) {
        self.walks.close();
        self.walks.wait().await;
        while self.queued_outcomes() > 0 {
            tokio::time::sleep(RETRY / 10).await;
        }
    }

    /// A conclusion that the ledger did not take: it is brought again until it does.
    pub(super) fn queue_outcome(&self, intent: IntentId, outcome: Outcome) {
        lock(&self.queued).push((intent, outcome));
        self.outage();
    }

    /// The ledger failed in a way that may have left an intent behind.
    pub(super) fn outage(&self) {
        if !self.out.swap(true, Ordering::Relaxed) {
            tracing::warn!("the ledger takes no records: nothing is signed until it does");
        }
        self.outage.notify_one();
    }

    /// Whether the ledger has failed and has not taken a record since.
    pub(super) fn ledger_unavailable(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }

    /// Conclusions that the ledger has yet to take.
    pub(super) fn queued_outcomes(&self) -> usize {
        lock(&self.queued).len()
    }

    /// Reconciles what earlier epochs left, and keeps the lease, until `stop`.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        // Two loops: a walk that hangs in the HSM holds up reconciliation, never the lease.
        let kept = async { tokio::join!(self.keep_lease(), self.keep_settled()) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = kept => {}
        }
    }

    async fn keep_lease(&self) {
        let mut interval = tokio::time::interval(self.lease / 3);
        loop {
            interval.tick().await;
            let epoch = self.epoch();
            if let Err(error) = self.ledger.renew(&epoch, self.clock.now()).await
                // The epoch may have ended in the meantime.
                && epoch == self.epoch()
            {
                tracing::warn!(%error, "the lease was not renewed");
                if error.is_outage() {
                    self.outage();
                }
            }
        }
    }

    async fn keep_settled(&self) {
        let mut interval = tokio::time::interval(self.lease / 3);
        loop {
            tokio::select! {
                () = self.outage.notified() => self.recover().await,
                _ = interval.tick() => self.reconcile().await,
            }
        }
    }

    /// Turns to a new epoch, pays what is owed, and settles what the old one left open; returns
    /// when the ledger has taken it all.
    async fn recover(&self) {
        let mut ended = Vec::new();
        while let Err(error) = self.try_recover(&mut ended).await {
            tracing::debug!(%error, "the ledger is not back yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// `ended` keeps the epochs that were turned from in earlier tries.
    async fn try_recover(&self, ended: &mut Vec<Arc<ActiveEpoch>>) -> Result<(), LedgerError> {
        let instance = self.epoch().instance;
        let now = self.clock.now();
        let epoch = self.ledger.register(&instance, self.lease, now).await?;
        tracing::info!(boot = epoch.boot, "the ledger is back: a new epoch begins");
        ended.push(std::mem::replace(
            &mut *lock(&self.current),
            ActiveEpoch::new(epoch),
        ));
        self.pay().await?;
        self.out.store(false, Ordering::Relaxed);
        for shift in ended {
            shift.walks.close();
            // A walk that hangs in the HSM for good is one that nobody knows the outcome of: after
            // a while it is judged like a dead process's, and its own word comes too late.
            let _ = tokio::time::timeout(self.lease, shift.walks.wait()).await;
        }
        self.pay().await?;
        self.reconcile().await;
        Ok(())
    }

    async fn pay(&self) -> Result<(), LedgerError> {
        loop {
            // It is owed until it is paid: a drain must not take it for done in between.
            let Some((intent, outcome)) = lock(&self.queued).last().cloned() else {
                return Ok(());
            };
            match self.ledger.conclude(intent, outcome).await {
                Err(error) if error.is_outage() => return Err(error),
                // Somebody with a right to judge was first: his word stands.
                Ok(()) | Err(LedgerError::AlreadyConcluded { .. }) => {}
                Err(error) => tracing::error!(%intent, %error, "a conclusion cannot be recorded"),
            }
            lock(&self.queued).retain(|(owed, _)| *owed != intent);
        }
    }

    async fn reconcile(&self) {
        let now = self.clock.now();
        match self.ledger.reconcile(&self.epoch(), now).await {
            Ok(0) => {}
            Ok(left) => tracing::warn!(left, "intents without an outcome are now `unknown`"),
            Err(error) => tracing::warn!(%error, "open intents were not reconciled"),
        }
    }

    fn epoch(&self) -> Epoch {
        lock(&self.current).epoch.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
