//! Group commit: intents and conclusions in one transaction with one sync, each with its own
//! result.

use sqlx::SqliteConnection;

use super::bulk_insert::{BulkInsert, ConclusionRow, IntentRow};
use super::columns::{Columns, is_constraint};
use super::transaction::begin;
use super::writer_state::WriterState;
use crate::clock::UnixTime;
use crate::ledger::{
    CaCertificateId, Intent, IntentId, IssuerState, Kind, LedgerError, Outcome, Record, State,
};

/// The results of a batch's requests, in their order.
pub(super) struct BatchResults {
    pub(super) records: Vec<Result<Record, LedgerError>>,
    pub(super) conclusions: Vec<Result<(), LedgerError>>,
}

/// Why a whole batch failed.
#[derive(Debug)]
pub(super) enum BatchError {
    /// One of the rows, not known which, violates a constraint; the connection remains usable.
    Constraint(LedgerError),
    /// The connection must not be used again.
    Connection(LedgerError),
}

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
        let mut results = Vec::with_capacity(intents.len());
        let mut admitted = Vec::with_capacity(intents.len());
        let mut next = newest;
        for intent in intents {
            let epoch = state
                .epoch(conn, &intent.epoch)
                .await
                .map_err(StatementError::Ledger)?;
            results.push(match (admit(state, intent), epoch) {
                (Ok(issuer), Some(epoch)) => {
                    next += 1;
                    let id = IntentId::new(next);
                    admitted.push(IntentRow {
                        id,
                        issuer,
                        epoch,
                        intent,
                    });
                    Ok(Record::New(id))
                }
                (refusal, epoch) => match existing_record(conn, intent).await? {
                    Some(record) => Ok(record),
                    None => Err(refusal
                        .err()
                        .filter(|_| epoch.is_some())
                        .unwrap_or_else(|| {
                            let epoch = intent.epoch.clone();
                            LedgerError::UnknownEpoch {
                                instance: epoch.instance,
                                boot: epoch.boot,
                            }
                        })),
                },
            });
        }
        let inserted = self.intents.run(conn, &admitted).await?;
        state.widen(conn, &admitted).await?;
        if inserted < admitted.len() {
            let present: Vec<i64> =
                sqlx::query_scalar("SELECT id FROM intent WHERE id > ? ORDER BY id")
                    .bind(newest)
                    .fetch_all(&mut *conn)
                    .await?;
            for (result, intent) in results.iter_mut().zip(intents) {
                let Ok(Record::New(id)) = result else {
                    continue;
                };
                if present.binary_search(&id.get()).is_err() {
                    *result = classify_conflict(conn, intent).await?;
                }
            }
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
        let is_known = |intent: &IntentId| (1..=newest).contains(&intent.get());
        let rows: Vec<_> = conclusions
            .iter()
            .filter(|(intent, _)| is_known(intent))
            .map(|(intent, outcome)| ConclusionRow {
                intent: *intent,
                outcome,
                at,
            })
            .collect();
        let inserted = self.conclusions.run(conn, &rows).await?;
        let all_new = inserted == rows.len();
        let mut results = Vec::with_capacity(conclusions.len());
        for (intent, outcome) in conclusions {
            results.push(if !is_known(intent) {
                Err(LedgerError::UnknownIntent(*intent))
            } else if all_new {
                Ok(())
            } else {
                match outcome_of(conn, *intent).await? {
                    Some(on_record) if on_record == *outcome => Ok(()),
                    Some(on_record) => Err(LedgerError::AlreadyConcluded {
                        intent: *intent,
                        state: on_record.state(),
                    }),
                    None => Err(LedgerError::UnknownIntent(*intent)),
                }
            });
        }
        Ok(results)
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

/// The issuer's row, if its state allows the intent.
fn admit(state: &WriterState, intent: &Intent) -> Result<i64, LedgerError> {
    let issuer = state
        .issuer(&intent.issuer)
        .ok_or_else(|| LedgerError::UnknownIssuer(intent.issuer.clone()))?;
    match (issuer.state, intent.kind) {
        (IssuerState::Active, _) | (IssuerState::Pending, Kind::Ca | Kind::Request) => {
            Ok(issuer.row)
        }
        (state, _) => Err(LedgerError::IssuerNotActive {
            issuer: intent.issuer.clone(),
            state,
        }),
    }
}

/// Why an intent was not inserted: its idempotency key or its serial is on record.
async fn classify_conflict(
    conn: &mut SqliteConnection,
    intent: &Intent,
) -> Result<Result<Record, LedgerError>, StatementError> {
    if let Some(record) = existing_record(conn, intent).await? {
        return Ok(Ok(record));
    }
    Ok(Err(match &intent.serial {
        Some(serial) => LedgerError::DuplicateSerial {
            issuer: intent.issuer.clone(),
            serial: *serial,
        },
        None => {
            LedgerError::Damaged("an intent conflicts with a row that does not exist".to_owned())
        }
    }))
}

/// The record with the same idempotency key.
async fn existing_record(
    conn: &mut SqliteConnection,
    intent: &Intent,
) -> Result<Option<Record>, StatementError> {
    let Some(key) = &intent.idempotency_key else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT intent.id, tbs, issuer.key, algorithm, ca_certificate
         FROM intent JOIN issuer ON issuer.id = intent.issuer WHERE origin = ?",
    )
    .bind(key)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Columns(&row);
    let read = || {
        let id = row.get("id").map(IntentId::new)?;
        let ca_certificate: Option<i64> = row.get("ca_certificate")?;
        Ok((
            id,
            row.get("tbs")?,
            row.parsed("key")?,
            row.algorithm("algorithm")?,
            ca_certificate,
        ))
    };
    let (id, tbs, issuer_id, algorithm, ca_certificate) = read().map_err(StatementError::Ledger)?;
    Ok(Some(Record::Existing {
        id,
        tbs,
        issuer_id,
        algorithm,
        ca_certificate: ca_certificate.map(CaCertificateId::new),
        outcome: outcome_of(conn, id).await?,
    }))
}

async fn outcome_of(
    conn: &mut SqliteConnection,
    intent: IntentId,
) -> Result<Option<Outcome>, StatementError> {
    let row = sqlx::query("SELECT state, signature, reason FROM conclusion WHERE intent = ?")
        .bind(intent.get())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    outcome(&Columns(&row)).map_err(StatementError::Ledger)
}

fn outcome(row: &Columns<'_>) -> Result<Option<Outcome>, LedgerError> {
    Ok(match row.state("state")? {
        State::Pending => None,
        State::Issued => Some(Outcome::Issued {
            signature: row.get("signature")?,
        }),
        State::Failed => Some(Outcome::Failed {
            reason: row.get("reason")?,
        }),
        State::Unknown => Some(Outcome::Unknown {
            reason: row.get("reason")?,
        }),
    })
}
