//! The ledger in one SQLite file: one writing task with group commit, a few connections that read.

mod anchors;
mod batch;
mod block_range_index;
mod bulk_insert;
mod bundles;
mod change;
mod check;
mod columns;
mod epochs;
mod issuers;
mod lock;
mod lookup;
mod open;
mod query;
mod rollouts;
mod snapshot;
mod transaction;
mod writer;
mod writer_state;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};

pub use open::OpenMode;

use self::lock::ServerLock;
use self::open::{Connector, prepare};
use self::writer::{Job, Writer};
use super::{
    Actor, Applied, BundleRecord, BundleRollout, CertificateRow, Change, CheckReport, Epoch,
    Filter, Intent, IntentId, IssuerId, Ledger, LedgerError, LedgerFuture, Outcome, Record,
    Snapshot,
};
use crate::clock::{Clock, UnixTime};
use crate::x509::{Serial, TrustDomain};

/// A ledger in a SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    connector: Connector,
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    lock: Weak<ServerLock>,
}

/// Requests that may wait for the writer; more wait to be let in.
const QUEUE: usize = 4096;

impl Sqlite {
    /// Opens the file at `path`, makes it (mode 0600) where there is none, and brings its schema up
    /// to date. Must be called in a Tokio runtime, which then also runs the writer.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another server has it, [`LedgerError::NewerSchema`] when a newer
    /// version has written it, [`LedgerError::OlderSchema`] when a running server must upgrade it,
    /// [`LedgerError::NotALedger`] and [`LedgerError::Unavailable`].
    pub async fn open(
        path: impl AsRef<Path>,
        mode: OpenMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let connector = Connector::new(path.as_ref());
        let lock = prepare(&connector, mode).await?.map(Arc::new);
        let weak = lock.as_ref().map(Arc::downgrade).unwrap_or_default();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            jobs: queue,
            connector: connector.clone(),
            clock: Arc::clone(&clock),
            lock,
        };
        tokio::spawn(writer.run());
        let readers = connector.readers();
        Ok(Self {
            connector,
            jobs,
            readers,
            clock,
            lock: weak,
        })
    }

    /// Hands the writer a job and waits for its answer.
    async fn send<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> LedgerError {
    LedgerError::unavailable("it was closed")
}

impl Ledger for Sqlite {
    fn record(&self, intent: Intent) -> LedgerFuture<'_, Record> {
        self.send(|reply| Job::Record(Box::new(intent), reply))
            .boxed()
    }

    fn conclude(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()> {
        self.send(move |reply| Job::Conclude(intent, outcome, reply))
            .boxed()
    }

    fn reopen(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()> {
        let now = self.clock.now();
        self.transact(move |conn| {
            async move { epochs::reopen(conn, intent, &outcome, now).await }.boxed()
        })
        .boxed()
    }

    fn certificates(&self, filter: Filter) -> LedgerFuture<'_, Vec<CertificateRow>> {
        self.read(move |conn| async move { query::certificates(conn, &filter).await }.boxed())
            .boxed()
    }

    fn certificate<'a>(
        &'a self,
        issuer: Option<IssuerId>,
        serial: &'a Serial,
    ) -> LedgerFuture<'a, Option<CertificateRow>> {
        let serial = *serial;
        self.read(move |conn| {
            async move { query::by_serial(conn, issuer.as_ref(), &serial).await }.boxed()
        })
        .boxed()
    }

    fn snapshot(&self) -> LedgerFuture<'_, Snapshot> {
        self.read(|conn| snapshot::snapshot(conn).boxed()).boxed()
    }

    fn revision(&self) -> LedgerFuture<'_, u64> {
        self.read(|conn| change::revision(conn).boxed()).boxed()
    }

    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>> {
        let trust_domain = trust_domain.clone();
        self.read(move |conn| {
            async move {
                let authority = lookup::authority(conn, &trust_domain).await?;
                bundles::bundle(conn, authority, sequence).await
            }
            .boxed()
        })
        .boxed()
    }

    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied> {
        let (by, now) = (by.clone(), self.clock.now());
        self.transact(move |conn| {
            async move { change::apply(conn, change, &by, now).await }.boxed()
        })
        .boxed()
    }

    fn record_rollout(&self, rollout: BundleRollout) -> LedgerFuture<'_, UnixTime> {
        self.transact(move |conn| async move { rollouts::record(conn, &rollout).await }.boxed())
            .boxed()
    }

    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>> {
        self.read(|conn| rollouts::newest(conn).boxed()).boxed()
    }

    fn register<'a>(
        &'a self,
        instance: &'a str,
        lease: Duration,
        now: UnixTime,
    ) -> LedgerFuture<'a, Epoch> {
        if let Some(lock) = self.lock.upgrade() {
            lock.name(instance);
        }
        let instance = instance.to_owned();
        self.transact(move |conn| {
            async move { epochs::register(conn, &instance, lease, now).await }.boxed()
        })
        .boxed()
    }

    fn renew<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, ()> {
        let epoch = epoch.clone();
        self.transact(move |conn| async move { epochs::renew(conn, &epoch, now).await }.boxed())
            .boxed()
    }

    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64> {
        let (epoch, at) = (epoch.clone(), self.clock.now());
        async move {
            let judge = epoch.clone();
            let left = self
                .read(move |conn| {
                    async move { epochs::open_intents(conn, &judge, now).await }.boxed()
                })
                .await?;
            self.transact(move |conn| {
                async move { epochs::reconcile(conn, &epoch, &left, now, at).await }.boxed()
            })
            .await
        }
        .boxed()
    }

    fn check(&self) -> LedgerFuture<'_, CheckReport> {
        self.read(|conn| check::check(conn).boxed()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.readers.close().await;
            let (done, closed) = oneshot::channel();
            if self.jobs.send(Job::Close(done)).await.is_ok() {
                // A writer that has gone has closed.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}
