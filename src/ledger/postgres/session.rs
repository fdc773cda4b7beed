//! One connection to the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, NoTls, Socket};

use super::errors::{Cause, cause};
use super::settings::PostgresConfig;
use super::tls::MakeTls;
use crate::ledger::LedgerError;

/// The longest that a statement waits for an answer; the server gives up before.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest that opening a connection takes, whichever server it is.
const OPEN: Duration = Duration::from_secs(20);

/// `BEGIN` with the server's own limits, which end with the transaction: a pooler may hand the
/// connection to others between transactions. A server that is stopped within a transaction holds its
/// locks no longer than others wait for them.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s'; \
    SET LOCAL idle_in_transaction_session_timeout = '4s'";

/// The same for a consistent view.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

pub(super) struct Session {
    client: Client,
    /// Nothing failed on it that leaves it in an unknown state.
    usable: bool,
    /// Its server takes no writes any more: another one may.
    read_only: AtomicBool,
}

impl Session {
    /// # Errors
    /// [`LedgerError::Unavailable`] with the cause and what to do, also for a server that would lose
    /// what it has confirmed.
    pub(super) async fn open(settings: &PostgresConfig) -> Result<Self, LedgerError> {
        let opened = timeout(OPEN, async {
            let session = match settings.tls() {
                Some(files) => Self::connect(settings, MakeTls::new(files)?).await?,
                None => Self::connect(settings, NoTls).await?,
            };
            session.require_durability().await?;
            Ok(session)
        });
        match opened.await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(LedgerError::Unavailable { reason })) => Err(LedgerError::unavailable(format!(
                "{}: {reason}",
                settings.name()
            ))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LedgerError::unavailable(format!(
                "{}: no server has answered within {OPEN:?}",
                settings.name()
            ))),
        }
    }

    async fn connect<T>(settings: &PostgresConfig, tls: T) -> Result<Self, LedgerError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = settings.connection()?.connect(tls).await?;
        // Its error is that of the statements that wait for it.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self {
            client,
            usable: true,
            read_only: AtomicBool::new(false),
        })
    }

    /// Refuses settings with which a confirmed commit may be lost. In a transaction, which a pooler in
    /// statement mode refuses.
    async fn require_durability(&self) -> Result<(), LedgerError> {
        let settings = [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on, or remote_apply"),
        ];
        let names: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
        self.simple("BEGIN READ ONLY").await?;
        let rows = self
            .query(
                "SELECT current_setting(name) AS value FROM unnest($1) WITH ORDINALITY AS each (name, n)
                 ORDER BY n",
                &[(&names, Type::TEXT_ARRAY)],
            )
            .await?;
        self.simple("ROLLBACK").await?;
        for (row, (name, wanted)) in rows.iter().zip(settings) {
            let value: String = row.try_get(0)?;
            if value == "off" {
                return Err(LedgerError::unavailable(format!(
                    "the database server has {name} = off, with which it loses what it has confirmed: \
                     set it to {wanted}"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn is_usable(&self) -> bool {
        self.usable && !self.read_only.load(Ordering::Relaxed) && !self.client.is_closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<tokio_postgres::Row>, LedgerError> {
        Ok(self.seen(answered(self.client.query_typed(sql, values)).await?)?)
    }

    pub(super) async fn execute(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<u64, LedgerError> {
        Ok(self.seen(answered(self.client.execute_typed(sql, values)).await?)?)
    }

    /// Statements without values, separated by semicolons.
    pub(super) async fn simple(&self, sql: &str) -> Result<(), LedgerError> {
        Ok(self.seen(answered(self.client.batch_execute(sql)).await?)?)
    }

    /// As [`query`](Self::query), with the error's cause.
    pub(super) async fn try_query(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<tokio_postgres::Row>, (Cause, LedgerError)> {
        self.with_cause(answered(self.client.query_typed(sql, values)).await)
    }

    /// As [`simple`](Self::simple), with the error's cause.
    pub(super) async fn try_simple(&self, sql: &str) -> Result<(), (Cause, LedgerError)> {
        self.with_cause(answered(self.client.batch_execute(sql)).await)
    }

    /// After a statement that has failed, the server answers with a rollback, which is no error here.
    ///
    /// # Errors
    /// Whether the transaction was committed is not known.
    pub(super) async fn commit(&self) -> Result<(), LedgerError> {
        // The wait for a standby's confirmation must not end with the time for a statement: the server
        // would then report a commit that the standby may not have. Two messages, so that the second
        // is read whatever becomes of the first.
        let (_, committed) = join(
            self.simple("SET LOCAL statement_timeout = 0"),
            self.simple("COMMIT"),
        )
        .await;
        committed
    }

    /// Ends a transaction that has failed; the session may be used again if that succeeds.
    pub(super) async fn roll_back(&mut self) {
        self.usable = self.simple("ROLLBACK").await.is_ok();
    }

    /// The session is in an unknown state.
    pub(super) fn give_up(&mut self) {
        self.usable = false;
    }

    /// A server that became a standby would refuse every write of this session.
    fn seen<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
        {
            self.read_only.store(true, Ordering::Relaxed);
        }
        result
    }

    fn with_cause<T>(
        &self,
        result: Result<Result<T, Error>, LedgerError>,
    ) -> Result<T, (Cause, LedgerError)> {
        match result.map(|answer| self.seen(answer)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err((cause(&error), error.into())),
            Err(error) => Err((Cause::Store, error)),
        }
    }
}

async fn answered<T>(work: impl Future<Output = T>) -> Result<T, LedgerError> {
    timeout(ANSWER, work).await.map_err(|_| {
        LedgerError::unavailable(format!("the database has not answered within {ANSWER:?}"))
    })
}
