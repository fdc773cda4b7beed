//! The ledger in a PostgreSQL database: any number of servers write to it.
//!
//! Each process has one task that writes intents and outcomes in batches, and a few connections for
//! everything else. Batches of all servers share an advisory lock, and changes of the records take it
//! alone: so a batch is committed under the records that it was admitted under. Statements are neither
//! prepared nor tied to a session, so that a pooler may hand a connection to others after each
//! transaction.

mod batch;
mod calls;
mod changes;
mod check;
mod epochs;
mod errors;
mod guards;
mod live_certificates;
mod migrations;
mod pool;
mod pooled;
mod pooler;
mod query;
mod replication;
mod schema;
mod session;
mod settings;
mod tls;
mod values;
mod writer;

use std::fmt;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

pub use settings::{PasswordSource, PostgresConfig};

use self::changes::Changes;
use self::pool::{Excludes, Pool, closed};
use self::session::Session;
use self::writer::{Job, Writer};
use super::LedgerError;
use crate::clock::Clock;

pub struct Postgres {
    name: String,
    pool: Arc<Pool>,
    jobs: mpsc::Sender<Job>,
    clock: Arc<dyn Clock>,
    changes: Arc<Changes>,
    /// The task that hears of them, once somebody waits for one.
    listener: OnceLock<AbortHandle>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

/// The writer's queue; more calls wait for a place in it.
const QUEUE_LEN: usize = 4096;

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.name).finish()
    }
}

impl Postgres {
    /// Connects, and makes or upgrades the schema if necessary. It needs a Tokio runtime, on which the
    /// writer runs.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`], [`LedgerError::NewerSchema`], [`LedgerError::NotALedger`], and
    /// [`LedgerError::Damaged`] for a schema without its triggers and keys.
    pub async fn open(
        settings: PostgresConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let settings = Arc::new(settings);
        let mut session = Session::open(&settings).await?;
        schema::prepare(&mut session, &settings).await?;
        Ok(Self::start(settings, session, clock))
    }

    /// Connects; `None` if the database has no ledger.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_existing(
        settings: PostgresConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, LedgerError> {
        let settings = Arc::new(settings);
        let mut session = Session::open(&settings).await?;
        if !schema::exists(&mut session, &settings).await? {
            return Ok(None);
        }
        schema::prepare(&mut session, &settings).await?;
        Ok(Some(Self::start(settings, session, clock)))
    }

    fn start(settings: Arc<PostgresConfig>, session: Session, clock: Arc<dyn Clock>) -> Self {
        let (jobs, receiver) = mpsc::channel(QUEUE_LEN);
        let writer = Writer {
            jobs: receiver,
            settings: Arc::clone(&settings),
            clock: Arc::clone(&clock),
        };
        tokio::spawn(writer.run());
        Self {
            name: settings.name().to_owned(),
            pool: Arc::new(Pool::new(settings, session)),
            jobs,
            clock,
            changes: Arc::default(),
            listener: OnceLock::new(),
        }
    }

    /// Listens from now on.
    fn listen(&self) {
        self.listener.get_or_init(|| {
            let (changes, settings) = (Arc::clone(&self.changes), self.pool.settings());
            tokio::spawn(changes.listen(settings)).abort_handle()
        });
    }

    fn stop_listening(&self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
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

    /// Runs `work` in a transaction, to the end even if the caller is dropped.
    async fn transact<T, F>(&self, excludes: Excludes, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        let pool = Arc::clone(&self.pool);
        let task = tokio::spawn(async move { pool.transact(excludes, work).await });
        task.await.map_err(|error| {
            LedgerError::unavailable(format!("a transaction was aborted: {error}"))
        })?
    }
}
