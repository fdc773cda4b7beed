//! The ledger in a SQLite file: one task writes with group commit, a few connections read.

mod backup;
mod batch;
mod block_range_index;
mod bulk_insert;
mod calls;
mod check;
mod derive;
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
use super::LedgerError;
use crate::clock::Clock;

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
    pub(in crate::ledger) async fn transact<T, F>(&self, work: F) -> Result<T, LedgerError>
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
    pub(in crate::ledger) async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
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
