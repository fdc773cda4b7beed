//! A few connections beside the writer's.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::session::{BEGIN, BEGIN_READ, Session};
use super::settings::PostgresConfig;
use crate::ledger::LedgerError;

/// The most connections of one process, without the writer's.
const CONNECTIONS: usize = 4;

pub(super) struct Pool {
    settings: Arc<PostgresConfig>,
    idle: Mutex<Vec<Session>>,
    places: Semaphore,
}

/// Which others a transaction excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excludes {
    Nobody,
    /// Every change of the records and every batch of every server, so that what it reads is what is
    /// true when it commits.
    Writers,
}

/// Of the advisory lock that batches share and changes of the records take alone: "RBLG".
pub(super) const WRITE_LOCK: i64 = 0x5242_4c47;

impl Pool {
    pub(super) fn new(settings: Arc<PostgresConfig>, first: Session) -> Self {
        Self {
            settings,
            idle: Mutex::new(vec![first]),
            places: Semaphore::new(CONNECTIONS),
        }
    }

    pub(super) fn settings(&self) -> Arc<PostgresConfig> {
        Arc::clone(&self.settings)
    }

    /// Runs `work` on a connection, outside of a transaction.
    pub(super) async fn with<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, LedgerError>>,
    {
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let mut session = self.session().await?;
        let result = work(&mut session).await;
        self.keep(session);
        result
    }

    /// Runs `work` in a read-only transaction with one view of everything.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, LedgerError>>,
    {
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let mut session = self.begin(BEGIN_READ).await?;
        let result = work(&mut session).await;
        // Nothing was written: a failure is harmless.
        session.roll_back().await;
        self.keep(session);
        result
    }

    /// Runs `work` in a transaction; durable when it returns its result.
    pub(super) async fn transact<T, F>(&self, excludes: Excludes, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut Session) -> BoxFuture<'c, Result<T, LedgerError>>,
    {
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let begin = match excludes {
            Excludes::Nobody => BEGIN.to_owned(),
            Excludes::Writers => format!("{BEGIN}; SELECT pg_advisory_xact_lock({WRITE_LOCK})"),
        };
        let mut session = self.begin(&begin).await?;
        let result = match work(&mut session).await {
            Ok(result) => session.commit().await.map(|()| result),
            Err(error) => Err(error),
        };
        if result.is_err() {
            session.roll_back().await;
        }
        self.keep(session);
        result
    }

    /// A session in a transaction. One that was closed while it was idle is replaced.
    async fn begin(&self, begin: &str) -> Result<Session, LedgerError> {
        loop {
            let mut session = self.session().await?;
            match session.simple(begin).await {
                Ok(()) => return Ok(session),
                Err(_) if session.is_closed() && !self.is_drained() => {}
                Err(error) => {
                    session.roll_back().await;
                    self.keep(session);
                    return Err(error);
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.idle().is_empty()
    }

    async fn session(&self) -> Result<Session, LedgerError> {
        while let Some(session) = self.take() {
            if session.is_usable() {
                return Ok(session);
            }
        }
        Session::open(&self.settings).await
    }

    fn take(&self) -> Option<Session> {
        self.idle().pop()
    }

    fn keep(&self, session: Session) {
        if session.is_usable() && !self.places.is_closed() {
            self.idle().push(session);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.places.close();
        self.idle().clear();
    }
}

pub(super) fn closed() -> LedgerError {
    LedgerError::unavailable("it is closed")
}
