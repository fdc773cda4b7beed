//! The one task that writes. Calls that queue up during a commit share the next one, so a lone
//! caller waits for one commit and many callers share it.

use std::sync::Arc;

use futures_util::FutureExt;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::batch::Statements;
use super::block_range_index::seal_complete;
use super::lock::ServerLock;
use super::open::{Connector, with_path};
use super::opened_file::OpenedFile;
use super::transaction::in_transaction;
use super::writer_state::WriterState;
use crate::clock::Clock;
use crate::ledger::sql::{Batch, BatchError, BatchResults, BatchStore, write_batch};
use crate::ledger::{Intent, IntentId, LedgerError, Outcome, Record};

/// The most requests in one transaction.
const MAX_BATCH: usize = 256;

/// How often the writer yields after a batch of several.
const YIELDS_AFTER_BATCH: usize = 3;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

#[derive(Debug)]
pub(super) enum Job {
    Record(Box<Intent>, Reply<Record>),
    Conclude(IntentId, Outcome, Reply<()>),
    /// Lends the connection for another transaction.
    Lend(Reply<LentConnection>),
    Close(oneshot::Sender<()>),
}

/// The writer's connection, lent; the writer waits for its return. A borrower that must not use it
/// again drops `give_back` instead, and the writer opens another.
#[derive(Debug)]
pub(super) struct LentConnection {
    pub(super) conn: SqliteConnection,
    pub(super) give_back: oneshot::Sender<SqliteConnection>,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) connector: Connector,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) file: Option<Arc<OpenedFile>>,
    /// Released after the connection is closed.
    pub(super) lock: Option<Arc<ServerLock>>,
}

impl Writer {
    /// Runs until it is closed or the last handle is dropped.
    pub(super) async fn run(mut self) {
        let mut batch_writer = BatchWriter {
            connector: self.connector,
            clock: self.clock,
            statements: Statements::new(),
            state: WriterState::default(),
            conn: None,
            file: self.file,
        };
        let mut jobs = Vec::with_capacity(MAX_BATCH);
        let mut closing = Vec::new();
        while self.jobs.recv_many(&mut jobs, MAX_BATCH).await > 0 {
            let mut batch = Batch::default();
            let mut borrowers = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Record(intent, reply) => {
                        batch.record(*intent, reply);
                    }
                    Job::Conclude(intent, outcome, reply) => {
                        batch.conclude(intent, outcome, reply);
                    }
                    Job::Lend(reply) => borrowers.push(reply),
                    Job::Close(done) => {
                        self.jobs.close();
                        closing.push(done);
                    }
                }
            }
            let batch_size = batch.len();
            write_batch(&mut batch_writer, batch).await;
            for borrower in borrowers {
                batch_writer.lend(borrower).await;
            }
            batch_writer.seal_complete().await;
            // The callers just answered are about to call again. Without time for them, many
            // callers would split into two groups that alternate, with twice the commits.
            for _ in 0..YIELDS_AFTER_BATCH {
                if batch_size > 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        batch_writer.close().await;
        drop(self.lock);
        for done in closing {
            // The caller may be gone.
            let _ = done.send(());
        }
    }
}

/// The state of the writing task.
#[derive(Debug)]
struct BatchWriter {
    connector: Connector,
    clock: Arc<dyn Clock>,
    statements: Statements,
    state: WriterState,
    conn: Option<SqliteConnection>,
    file: Option<Arc<OpenedFile>>,
}

impl BatchStore for BatchWriter {
    async fn attempt(&mut self, batch: &Batch) -> Result<BatchResults, BatchError> {
        let mut conn = self.connection().await.map_err(BatchError::Connection)?;
        let result = self
            .statements
            .write(
                &mut conn,
                &mut self.state,
                &batch.intents,
                &batch.conclusions,
                self.clock.now(),
            )
            .await;
        match result {
            Err(BatchError::Connection(error)) => {
                // After a failed sync, the descriptor may count lost pages as written: it must not
                // be used again. Closing it rolls back the open transaction.
                let _ = conn.close().await;
                self.forget_wal();
                self.state = WriterState::default();
                Err(BatchError::Connection(self.with_path(error)))
            }
            result => {
                self.conn = Some(conn);
                if let Some(file) = &self.file {
                    file.remember_wal();
                    // What was written to a file that is elsewhere now counts as not written.
                    file.check().map_err(BatchError::Connection)?;
                }
                result
            }
        }
    }
}

impl BatchWriter {
    /// Seals complete spans, after all callers have been answered.
    async fn seal_complete(&mut self) {
        let Some(newest) = self.state.span_to_seal_before() else {
            return;
        };
        let Ok(mut conn) = self.connection().await else {
            return;
        };
        let (first_unsealed, is_usable) =
            in_transaction(&mut conn, |conn| seal_complete(conn).boxed()).await;
        // A failure is retried with the next span.
        self.state
            .set_first_unsealed(first_unsealed.unwrap_or(newest));
        if is_usable {
            self.conn = Some(conn);
        } else {
            let _ = conn.close().await;
            self.forget_wal();
        }
    }

    async fn lend(&mut self, to: Reply<LentConnection>) {
        let (give_back, returned) = oneshot::channel();
        match self.connection().await {
            Ok(conn) => match to.send(Ok(LentConnection { conn, give_back })) {
                Ok(()) => {
                    self.conn = returned.await.ok();
                    match (&self.file, &self.conn) {
                        (Some(file), Some(_)) => file.remember_wal(),
                        _ => self.forget_wal(),
                    }
                }
                Err(unsent) => self.conn = unsent.ok().map(|lent| lent.conn),
            },
            Err(error) => {
                let _ = to.send(Err(error));
            }
        }
    }

    /// The connection, while the ledger's path leads to the file that the server has opened.
    async fn connection(&mut self) -> Result<SqliteConnection, LedgerError> {
        self.check_file()?;
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        let conn = self
            .connector
            .writer()
            .await
            .map_err(|error| with_path(self.connector.path(), error))?;
        if let Err(error) = self.check_file() {
            // It may be a connection to another file.
            let _ = conn.close().await;
            return Err(error);
        }
        Ok(conn)
    }

    fn check_file(&self) -> Result<(), LedgerError> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }

    fn forget_wal(&self) {
        if let Some(file) = &self.file {
            file.forget_wal();
        }
    }

    async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            // Everything confirmed is durable already.
            self.forget_wal();
            let _ = conn.close().await;
        }
    }

    fn with_path(&self, error: LedgerError) -> LedgerError {
        match error {
            LedgerError::Unavailable { reason } => {
                LedgerError::unavailable(format!("{}: {reason}", self.connector.path().display()))
            }
            other => other,
        }
    }
}
