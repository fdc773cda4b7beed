//! The ledger in a SQLite file: one task writes with group commit, a few connections read.

mod backup;
mod batch;
mod block_range_index;
mod bulk_insert;
mod check;
mod live_certificates;
mod lock;
mod open;
mod open_intents;
mod opened_file;
mod query;
mod transaction;
mod values;
mod writer;
mod writer_state;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

pub use backup::{CopyReport, backup, verify};
pub use open::OpenMode;

use self::lock::ServerLock;
use self::open::{Connector, prepare, with_path};
use self::opened_file::OpenedFile;
use self::transaction::{TransactionError, in_transaction};
use self::writer::{Job, LentConnection, Writer};
use super::{
    Actor, Applied, BundleRecord, BundleRollout, CertificateRow, Change, CheckReport, Claim,
    ClaimFrom, Epoch, Filter, HighWater, Intent, IntentId, IssuerId, Ledger, LedgerError,
    LedgerFuture, LiveCertificates, LiveFilter, Outcome, Record, RotationRecord, Snapshot,
    WorkLease, WorkLeaseRecord,
};
use crate::clock::{Clock, UnixTime};
use crate::ledger::sql::{self, Found};
use crate::x509::{Serial, TrustDomain};

#[derive(Debug)]
pub struct Sqlite {
    connector: Connector,
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    lock: Weak<ServerLock>,
    /// For a server.
    file: Option<Arc<OpenedFile>>,
}

/// The writer's queue; more calls wait for a place in it.
const QUEUE_LEN: usize = 4096;

impl Sqlite {
    /// Opens the file at `path`, creates it (mode 0600) if necessary, and upgrades its schema. It
    /// needs a Tokio runtime, on which the writer runs.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another server has it open, [`LedgerError::NewerSchema`] when a
    /// newer version has upgraded it, [`LedgerError::OlderSchema`] when a running server must
    /// upgrade it, [`LedgerError::NotALedger`] and [`LedgerError::Unavailable`].
    pub async fn open(
        path: impl AsRef<Path>,
        mode: OpenMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let connector = Connector::new(path.as_ref());
        let lock = prepare(&connector, mode).await?.map(Arc::new);
        let weak = lock.as_ref().map(Arc::downgrade).unwrap_or_default();
        let file = lock.as_ref().map(|lock| Arc::clone(lock.database()));
        let (jobs, receiver) = mpsc::channel(QUEUE_LEN);
        let writer = Writer {
            jobs: receiver,
            connector: connector.clone(),
            clock: Arc::clone(&clock),
            file: file.clone(),
            lock,
        };
        tokio::spawn(writer.run());
        let readers = connector.readers(file.clone());
        Ok(Self {
            connector,
            jobs,
            readers,
            clock,
            lock: weak,
            file,
        })
    }

    /// Sends the writer a job and waits for its result.
    async fn send<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Runs `work` in a transaction on the writer's connection, between two batches, to the end even
    /// if the caller is dropped: the writer waits for its connection.
    async fn transact<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        let jobs = self.jobs.clone();
        let path = self.connector.path().to_owned();
        let task = tokio::spawn(async move {
            let (reply, answer) = oneshot::channel();
            jobs.send(Job::Lend(reply)).await.map_err(|_| closed())?;
            let LentConnection {
                mut conn,
                give_back,
            } = answer.await.map_err(|_| closed())??;
            let (result, is_usable) = in_transaction(&mut conn, work).await;
            if is_usable {
                // The runtime may have dropped the writer.
                let _ = give_back.send(conn);
            } else {
                let _ = conn.close().await;
                drop(give_back);
            }
            result.map_err(|error| match error {
                TransactionError::Connection(error) => with_path(&path, error),
                TransactionError::Refused(error) => error,
            })
        });
        task.await.map_err(|error| {
            LedgerError::unavailable(format!("a transaction was aborted: {error}"))
        })?
    }

    /// Runs `work` in a transaction on a read-only connection.
    async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
    {
        if let Some(file) = &self.file {
            file.check()?;
        }
        let failed = |error| with_path(self.connector.path(), error);
        let mut transaction = self.readers.begin().await.map_err(failed)?;
        let result = work(&mut transaction).await;
        // Nothing was written: a failure is harmless.
        let _ = transaction.rollback().await;
        result
    }
}

fn closed() -> LedgerError {
    LedgerError::unavailable("it is closed")
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
            async move { sql::reopen(conn, intent, &outcome, now).await }.boxed()
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
        self.read(|conn| sql::snapshot(conn).boxed()).boxed()
    }

    fn revision(&self) -> LedgerFuture<'_, u64> {
        self.read(|conn| sql::revision(conn).boxed()).boxed()
    }

    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>> {
        let trust_domain = trust_domain.clone();
        self.read(move |conn| {
            async move {
                let authority = sql::authority(conn, &trust_domain).await?;
                sql::bundle(conn, authority, sequence).await
            }
            .boxed()
        })
        .boxed()
    }

    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied> {
        let (by, now) = (by.clone(), self.clock.now());
        self.transact(move |conn| async move { sql::apply(conn, change, &by, now).await }.boxed())
            .boxed()
    }

    fn record_rollout<'a>(
        &'a self,
        rollout: BundleRollout,
        lease: Option<&'a WorkLease>,
    ) -> LedgerFuture<'a, UnixTime> {
        let lease = lease.cloned();
        self.transact(move |conn| {
            async move { sql::record_rollout(conn, &rollout, lease.as_ref()).await }.boxed()
        })
        .boxed()
    }

    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>> {
        self.read(|conn| sql::newest_rollouts(conn).boxed()).boxed()
    }

    fn rotations(&self) -> LedgerFuture<'_, Vec<RotationRecord>> {
        self.read(|conn| sql::rotations(conn).boxed()).boxed()
    }

    fn live_certificates(&self, filter: LiveFilter) -> LedgerFuture<'_, LiveCertificates> {
        self.read(move |conn| async move { sql::live_certificates(conn, &filter).await }.boxed())
            .boxed()
    }

    fn register<'a>(
        &'a self,
        instance: &'a str,
        lease: Duration,
        now: UnixTime,
    ) -> LedgerFuture<'a, Epoch> {
        if let Some(lock) = self.lock.upgrade() {
            lock.set_instance(instance);
        }
        let instance = instance.to_owned();
        self.transact(move |conn| {
            async move { sql::register(conn, &instance, lease, now).await }.boxed()
        })
        .boxed()
    }

    fn renew<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, ()> {
        let epoch = epoch.clone();
        self.transact(move |conn| async move { sql::renew(conn, &epoch, now).await }.boxed())
            .boxed()
    }

    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64> {
        let (epoch, concluded_at) = (epoch.clone(), self.clock.now());
        async move {
            let reader_epoch = epoch.clone();
            let open = self
                .read(move |conn| {
                    async move { open_intents::open_intents(conn, &reader_epoch, now).await }
                        .boxed()
                })
                .await?;
            self.transact(move |conn| {
                async move {
                    let concluded = sql::reconcile(conn, &epoch, &open, now, concluded_at).await?;
                    block_range_index::mark_settled(conn).await?;
                    Ok(concluded)
                }
                .boxed()
            })
            .await
        }
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        work: &'a str,
        from: ClaimFrom,
        epoch: &'a Epoch,
        now: UnixTime,
    ) -> LedgerFuture<'a, Claim> {
        let (name, own) = (work.to_owned(), epoch.clone());
        // The file's lock says that no other server is alive.
        let from = match self.lock.upgrade().is_some() {
            true => ClaimFrom::Anyone,
            false => from,
        };
        async move {
            let reader = (work.to_owned(), epoch.clone());
            let found = self
                .read(move |conn| {
                    async move { sql::look(conn, (&reader.0, from), &reader.1, now).await }.boxed()
                })
                .await?;
            if let Found::Answer(claim) = found {
                return Ok(claim);
            }
            self.transact(move |conn| {
                async move { sql::claim(conn, (&name, from), &own, now).await }.boxed()
            })
            .await
        }
        .boxed()
    }

    fn give_up<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        self.transact(move |conn| async move { sql::give_up(conn, &lease).await }.boxed())
            .boxed()
    }

    fn require<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()> {
        let lease = lease.clone();
        self.read(move |conn| async move { sql::require(conn, &lease).await }.boxed())
            .boxed()
    }

    fn work_leases(&self) -> LedgerFuture<'_, Vec<WorkLeaseRecord>> {
        self.read(|conn| sql::work_leases(conn).boxed()).boxed()
    }

    fn identity(&self) -> LedgerFuture<'_, Option<String>> {
        self.read(|conn| sql::identity(conn).boxed()).boxed()
    }

    fn high_water(&self) -> LedgerFuture<'_, HighWater> {
        self.read(|conn| sql::high_water(conn).boxed()).boxed()
    }

    fn behind<'a>(&'a self, mark: &'a HighWater) -> LedgerFuture<'a, Option<String>> {
        let mark = mark.clone();
        self.read(move |conn| async move { sql::behind(conn, &mark).await }.boxed())
            .boxed()
    }

    fn time(&self) -> LedgerFuture<'_, Option<UnixTime>> {
        async { Ok(None) }.boxed()
    }

    fn check(&self) -> LedgerFuture<'_, CheckReport> {
        self.read(|conn| check::check(conn).boxed()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.readers.close().await;
            let (done, closed) = oneshot::channel();
            if self.jobs.send(Job::Close(done)).await.is_ok() {
                // A writer that has ended is closed.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}
