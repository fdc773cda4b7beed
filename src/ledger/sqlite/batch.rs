//! Group commit: intents and conclusions in one transaction with one sync, each with its own
//! result.

use sqlx::SqliteConnection;

use super::bulk_insert::{BulkInsert, ConclusionRow};
use super::transaction::begin;
use super::values::is_constraint;
use super::writer_state::WriterState;
use crate::clock::UnixTime;
use crate::ledger::sql::{BatchError, BatchResults, admit_all, conclusions_of, settle_conflicts};
use crate::ledger::{Intent, IntentId, LedgerError, Outcome, Record};

/// The writer's statements.
#[derive(Debug)]
pub(super) struct Statements {
    intents: BulkInsert,
    conclusions: BulkInsert,
}

impl Statements {
    pub(super) fn new() -> Self {
        Self {
            intents: BulkInsert::intents(),
            conclusions: BulkInsert::conclusions(),
        }
    }

    /// Writes the batch; durable when it returns results.
    pub(super) async fn write(
        &self,
        conn: &mut SqliteConnection,
        state: &mut WriterState,
        intents: &[Intent],
        conclusions: &[(IntentId, Outcome)],
        now: UnixTime,
    ) -> Result<BatchResults, BatchError> {
        let failed = |error: sqlx::Error| BatchError::Connection(error.into());
        let (newest, revision) = begin(conn).await.map_err(failed)?;
        let written = async {
            state
                .known
                .refresh(conn, revision)
                .await
                .map_err(StatementError::Ledger)?;
            let records = self.record(conn, state, intents, newest).await?;
            let conclusions = self.conclude(conn, conclusions, newest, now).await?;
            Ok(BatchResults {
                records,
                conclusions,
            })
        };
        match written.await {
            Ok(results) => {
                sqlx::query("COMMIT")
                    .execute(&mut *conn)
                    .await
                    .map_err(failed)?;
                state.committed();
                Ok(results)
            }
            Err(StatementError::Sql(error)) if is_constraint(&error) => {
                sqlx::query("ROLLBACK")
                    .execute(&mut *conn)
                    .await
                    .map_err(failed)?;
                Err(BatchError::Constraint(error.into()))
            }
            Err(StatementError::Sql(error)) => Err(failed(error)),
            Err(StatementError::Ledger(error)) => Err(BatchError::Connection(error)),
        }
    }

    async fn record(
        &self,
        conn: &mut SqliteConnection,
        state: &mut WriterState,
        intents: &[Intent],
        newest: i64,
    ) -> Result<Vec<Result<Record, LedgerError>>, StatementError> {
        let mut next = newest;
        let (mut results, admitted) = admit_all(conn, &mut state.known, intents, || {
            next += 1;
            Ok(next)
        })
        .await
        .map_err(StatementError::Ledger)?;
        let inserted = self.intents.run(conn, &admitted).await?;
        state.widen(conn, &admitted).await?;
        if inserted < admitted.len() {
            let present: Vec<i64> =
                sqlx::query_scalar("SELECT id FROM intent WHERE id > ? ORDER BY id")
                    .bind(newest)
                    .fetch_all(&mut *conn)
                    .await?;
            settle_conflicts(conn, &mut results, intents, &present)
                .await
                .map_err(StatementError::Ledger)?;
        }
        Ok(results)
    }

    async fn conclude(
        &self,
        conn: &mut SqliteConnection,
        conclusions: &[(IntentId, Outcome)],
        newest: i64,
        at: UnixTime,
    ) -> Result<Vec<Result<(), LedgerError>>, StatementError> {
        let is_known = |intent: IntentId| (1..=newest).contains(&intent.get());
        let rows: Vec<_> = conclusions
            .iter()
            .filter(|(intent, _)| is_known(*intent))
            .map(|(intent, outcome)| ConclusionRow {
                intent: *intent,
                outcome,
                at,
            })
            .collect();
        let inserted = self.conclusions.run(conn, &rows).await?;
        conclusions_of(conn, conclusions, inserted == rows.len(), is_known)
            .await
            .map_err(StatementError::Ledger)
    }
}

enum StatementError {
    Sql(sqlx::Error),
    Ledger(LedgerError),
}

impl From<sqlx::Error> for StatementError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}
