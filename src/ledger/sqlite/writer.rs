//! The one task that writes: what waits when it is free goes into its next batch, so that a lone
//! caller sees one commit's latency and a batch_size shares it.

use std::sync::Arc;

use futures_util::FutureExt;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::batch::{BatchError, BatchResults, Statements};
use super::block_range_index::seal_complete;
use super::lock::ServerLock;
use super::open::{Connector, with_path};
use super::transaction::in_transaction;
use super::writer_state::WriterState;
use crate::clock::Clock;
use crate::ledger::{Intent, IntentId, LedgerError, Outcome, Record};

/// The most requests in one transaction.
const BATCH: usize = 256;

/// How often the writer lets others go first after a batch of several.
const YIELDS_AFTER_BATCH: usize = 3;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Job {
    Record(Box<Intent>, Reply<Record>),
    Conclude(IntentId, Outcome, Reply<()>),
    /// Lends the connection for a transaction of another sort.
    Lend(Reply<LentConnection>),
    Close(oneshot::Sender<()>),
}

/// The writer's connection, lent; the writer waits until it comes back. Dropped instead, because
/// it is not to be trusted any more, it is replaced.
#[derive(Debug)]
pub(super) struct LentConnection {
    pub(super) conn: SqliteConnection,
    pub(super) give_back: oneshot::Sender<SqliteConnection>,
}

/// The writing task.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) connector: Connector,
    pub(super) clock: Arc<dyn Clock>,
    /// Given up after the connection is closed.
    pub(super) lock: Option<Arc<ServerLock>>,
}

impl Writer {
    /// Works until it is told to close or nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut batch_writer = BatchWriter {
            connector: self.connector,
            clock: self.clock,
            statements: Statements::new(),
            state: WriterState::default(),
            conn: None,
        };
        let mut jobs = Vec::with_capacity(BATCH);
        let mut closing = Vec::new();
        while self.jobs.recv_many(&mut jobs, BATCH).await > 0 {
            let mut batch = Batch::default();
            let mut loans = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Record(intent, reply) => {
                        batch.intents.push(*intent);
                        batch.recorded.push(reply);
                    }
                    Job::Conclude(intent, outcome, reply) => {
                        batch.conclusions.push((intent, outcome));
                        batch.concluded.push(reply);
                    }
                    Job::Lend(reply) => loans.push(reply),
                    Job::Close(done) => {
                        self.jobs.close();
                        closing.push(done);
                    }
                }
            }
            let batch_size = batch.len();
            batch_writer.write(batch).await;
            for loan in loans {
                batch_writer.lend(loan).await;
            }
            batch_writer.seal_complete().await;
            // Those who have just been answered are about to ask again: without a moment for them a
            // batch_size splits into two that take loans, with twice the commits. A lone caller finds
            // nobody in front.
            for _ in 0..YIELDS_AFTER_BATCH {
                if batch_size > 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        batch_writer.discard().await;
        drop(self.lock);
        for done in closing {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

/// Requests for one transaction, and where their answers go.
#[derive(Debug, Default)]
struct Batch {
    intents: Vec<Intent>,
    recorded: Vec<Reply<Record>>,
    conclusions: Vec<(IntentId, Outcome)>,
    concluded: Vec<Reply<()>>,
}

impl Batch {
    fn len(&self) -> usize {
        self.intents.len() + self.conclusions.len()
    }

    /// Each request in a batch of its own.
    fn split(self) -> impl Iterator<Item = Self> {
        let records = self
            .intents
            .into_iter()
            .zip(self.recorded)
            .map(|(intent, reply)| Self {
                intents: vec![intent],
                recorded: vec![reply],
                ..Self::default()
            });
        let conclusions = self
            .conclusions
            .into_iter()
            .zip(self.concluded)
            .map(|(item, reply)| Self {
                conclusions: vec![item],
                concluded: vec![reply],
                ..Self::default()
            });
        records.chain(conclusions)
    }

    fn answer(self, results: BatchResults) {
        // A caller that has gone needs no answer.
        for (reply, result) in self.recorded.into_iter().zip(results.records) {
            let _ = reply.send(result);
        }
        for (reply, result) in self.concluded.into_iter().zip(results.conclusions) {
            let _ = reply.send(result);
        }
    }

    fn fail(self, error: &LedgerError) {
        for reply in self.recorded {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.concluded {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// What the writer works with.
#[derive(Debug)]
struct BatchWriter {
    connector: Connector,
    clock: Arc<dyn Clock>,
    statements: Statements,
    state: WriterState,
    conn: Option<SqliteConnection>,
}

impl BatchWriter {
    async fn write(&mut self, batch: Batch) {
        if batch.len() == 0 {
            return;
        }
        match self.attempt(&batch).await {
            Ok(results) => batch.answer(results),
            Err(BatchError::Constraint(error)) if batch.len() == 1 => batch.fail(&error),
            // Rare: a row that no check foresaw must not take the others along.
            Err(BatchError::Constraint(_)) => {
                for single in batch.split() {
                    match self.attempt(&single).await {
                        Ok(results) => single.answer(results),
                        Err(BatchError::Constraint(error) | BatchError::Connection(error)) => {
                            single.fail(&error)
                        }
                    }
                }
            }
            Err(BatchError::Connection(error)) => batch.fail(&error),
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<BatchResults, BatchError> {
        let mut conn = self.connection().await.map_err(BatchError::Connection)?;
        let done = self
            .statements
            .write(
                &mut conn,
                &mut self.state,
                &batch.intents,
                &batch.conclusions,
                self.clock.now(),
            )
            .await;
        match done {
            Err(BatchError::Connection(error)) => {
                // A failed sync may have dropped pages that this descriptor believes are written:
                // it is never asked again. Closing rolls back what is open.
                let _ = conn.close().await;
                self.state = WriterState::default();
                Err(BatchError::Connection(self.named(error)))
            }
            done => {
                self.conn = Some(conn);
                done
            }
        }
    }

    /// Seals what has become complete, after everyone has been answered.
    async fn seal_complete(&mut self) {
        let Some(newest) = self.state.wants_sealing() else {
            return;
        };
        let Ok(mut conn) = self.connection().await else {
            return;
        };
        let (done, fit) = in_transaction(&mut conn, |conn| seal_complete(conn).boxed()).await;
        // What failed is tried again with the next span.
        self.state.sealed_before(done.unwrap_or(newest));
        if fit {
            self.conn = Some(conn);
        } else {
            let _ = conn.close().await;
        }
    }

    async fn lend(&mut self, to: Reply<LentConnection>) {
        let (give_back, returned) = oneshot::channel();
        match self.connection().await {
            Ok(conn) => match to.send(Ok(LentConnection { conn, give_back })) {
                Ok(()) => self.conn = returned.await.ok(),
                Err(unwanted) => self.conn = unwanted.ok().map(|loan| loan.conn),
            },
            Err(error) => {
                let _ = to.send(Err(error));
            }
        }
    }

    async fn connection(&mut self) -> Result<SqliteConnection, LedgerError> {
        match self.conn.take() {
            Some(conn) => Ok(conn),
            None => self
                .connector
                .writer()
                .await
                .map_err(|error| with_path(self.connector.path(), error)),
        }
    }

    async fn discard(&mut self) {
        if let Some(conn) = self.conn.take() {
            // Everything that was promised is durable already.
            let _ = conn.close().await;
        }
    }

    fn named(&self, error: LedgerError) -> LedgerError {
        match error {
            LedgerError::Unavailable { reason } => {
                LedgerError::unavailable(format!("{}: {reason}", self.connector.path().display()))
            }
            other => other,
        }
    }
}
