//! The one task of a process that writes intents and outcomes: what queues up during a commit shares
//! the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::Type;

use super::batch::{Unwritten, settle, write};
use super::errors::Cause;
use super::guards::missing_guards;
use super::pool::WRITE_LOCK;
use super::session::{BEGIN, Session};
use super::settings::PostgresConfig;
use crate::clock::Clock;
use crate::ledger::sql::{Batch, BatchError, BatchResults, BatchStore, Known, Reply, write_batch};
use crate::ledger::{Intent, IntentId, LedgerError, Outcome, Record};

/// The most requests in one transaction.
const MAX_BATCH: usize = 256;

/// How long a batch is tried again after the answer to its commit was lost, or another transaction was
/// in its way. Callers wait that long.
const TRY_FOR: Duration = Duration::from_secs(5);
/// The pause between two attempts to reach a server.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the schema is looked at: while it lacks what refuses changes, nothing is recorded.
const GUARDS: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Job {
    Record(Box<Intent>, Reply<Record>),
    Conclude(IntentId, Outcome, Reply<()>),
    Close(oneshot::Sender<()>),
}

pub(super) struct Writer {
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) settings: Arc<PostgresConfig>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Writer {
    /// Runs until it is closed or the last handle is dropped.
    pub(super) async fn run(mut self) {
        let mut store = Store {
            settings: self.settings,
            clock: self.clock,
            known: Known::default(),
            session: None,
            guarded: None,
        };
        let mut jobs = Vec::with_capacity(MAX_BATCH);
        let mut closing = Vec::new();
        while self.jobs.recv_many(&mut jobs, MAX_BATCH).await > 0 {
            let mut batch = Batch::default();
            for job in jobs.drain(..) {
                match job {
                    Job::Record(intent, reply) => batch.record(*intent, reply),
                    Job::Conclude(intent, outcome, reply) => batch.conclude(intent, outcome, reply),
                    Job::Close(done) => {
                        self.jobs.close();
                        closing.push(done);
                    }
                }
            }
            write_batch(&mut store, batch).await;
        }
        drop(store);
        for done in closing {
            // The caller may be gone.
            let _ = done.send(());
        }
    }
}

struct Store {
    settings: Arc<PostgresConfig>,
    clock: Arc<dyn Clock>,
    known: Known,
    session: Option<Session>,
    /// When the schema was last seen whole.
    guarded: Option<Instant>,
}

impl BatchStore for Store {
    async fn attempt(&mut self, batch: &Batch) -> Result<BatchResults, BatchError> {
        let until = Instant::now() + TRY_FOR;
        loop {
            // A connection that was idle may have ended since.
            let was_idle = self.session.as_ref().is_some_and(Session::is_usable);
            let mut session = self.session().await.map_err(BatchError::Connection)?;
            if self.guarded.is_none_or(|seen| seen.elapsed() > GUARDS) {
                match missing_guards(&mut session).await {
                    Ok(None) => self.guarded = Some(Instant::now()),
                    Ok(Some(problem)) => {
                        self.session = Some(session);
                        let error = LedgerError::unavailable(problem);
                        return Err(BatchError::Connection(error));
                    }
                    // The batch finds out what is wrong with the connection.
                    Err(_) => {}
                }
            }
            let written = write(&mut session, &mut self.known, batch, self.clock.now()).await;
            let closed = session.is_closed();
            if session.is_usable() {
                self.session = Some(session);
            }
            match written {
                Ok(results) => return Ok(results),
                Err(Unwritten::Failed(Cause::Constraint, error)) => {
                    return Err(BatchError::Constraint(error));
                }
                Err(Unwritten::Failed(Cause::Conflict, _)) if Instant::now() < until => {}
                Err(Unwritten::Unanswered(error)) => {
                    self.known = Known::default();
                    return Err(BatchError::Connection(error));
                }
                Err(Unwritten::Failed(_, error)) => {
                    self.known = Known::default();
                    if !(was_idle && closed) {
                        return Err(BatchError::Connection(error));
                    }
                }
                Err(Unwritten::Unknown {
                    records,
                    numbers,
                    error,
                }) => {
                    self.known = Known::default();
                    let asked = self.ask(batch, records, &numbers, until).await;
                    match asked {
                        Ok(Some(results)) => return Ok(results),
                        Ok(None) if Instant::now() < until => {}
                        Ok(None) => return Err(BatchError::Connection(error)),
                        Err(error) => return Err(BatchError::Connection(error)),
                    }
                }
            }
        }
    }
}

impl Store {
    async fn session(&mut self) -> Result<Session, LedgerError> {
        match self.session.take() {
            Some(session) if session.is_usable() => Ok(session),
            _ => Session::open(&self.settings).await,
        }
    }

    /// The results of a batch if it was committed; `None` if it was not and will not be.
    async fn ask(
        &mut self,
        batch: &Batch,
        mut records: Vec<Result<Record, LedgerError>>,
        numbers: &[i64],
        until: Instant,
    ) -> Result<Option<BatchResults>, LedgerError> {
        let mut session = loop {
            match Session::open(&self.settings).await {
                Ok(session) => break session,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        // The transaction held the lock: once this one has it, the other has ended, also if its server
        // has not noticed yet that the connection is lost.
        session
            .simple(&format!(
                "{BEGIN}; SELECT pg_advisory_xact_lock({WRITE_LOCK})"
            ))
            .await?;
        let numbers = numbers.to_vec();
        let rows = session
            .query(
                "SELECT id FROM intent WHERE id = ANY($1) ORDER BY id",
                &[(&numbers, Type::INT8_ARRAY)],
            )
            .await?;
        session.roll_back().await;
        let present: Vec<i64> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        // Without intents of its own, a batch is made again: the same outcome twice is no error.
        let results = if present.is_empty() {
            None
        } else {
            let conclusions =
                settle(&mut session, batch, &mut records, &numbers, &present, false).await?;
            Some(BatchResults {
                records,
                conclusions,
            })
        };
        tracing::warn!(
            committed = results.is_some(),
            intents = numbers.len(),
            "the connection to the database was lost during a commit; the database was asked for its outcome"
        );
        if session.is_usable() {
            self.session = Some(session);
        }
        Ok(results)
    }
}
