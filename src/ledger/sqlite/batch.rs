//! One batch, one transaction, one sync: intents and conclusions together, each judged by itself.

use sqlx::{Row, SqliteConnection};

use super::codes::{Columns, is_busy, is_constraint};
use super::insert::{Admitted, Concluding, Inserts};
use super::known::Known;
use crate::clock::UnixTime;
use crate::ledger::{
    CaCertificateId, Intent, IntentId, IssuerState, Kind, LedgerError, Outcome, Record, State,
};
use std::time::{Duration, Instant};

/// What each of a batch's requests came to, in their order.
pub(super) struct Verdicts {
    pub(super) records: Vec<Result<Record, LedgerError>>,
    pub(super) conclusions: Vec<Result<(), LedgerError>>,
}

/// Why a batch came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// One of the rows is not acceptable, it is not known which; the connection is well.
    Row(LedgerError),
    /// The connection must not be used again.
    Store(LedgerError),
}

/// How long a writer waits for its turn among processes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries. A server under load leaves the lock free for microseconds at a time, which
/// SQLite's own waiting, longer with every try, would miss for ever.
const NEXT_TRY: Duration = Duration::from_micros(300);

/// Takes the write lock and answers the newest intent's number and the revision.
pub(super) async fn begin(conn: &mut SqliteConnection) -> Result<(i64, i64), sqlx::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let head = sqlx::query(
            "BEGIN IMMEDIATE;
             SELECT coalesce((SELECT max(id) FROM intent), 0), (SELECT value FROM revision)",
        )
        .fetch_one(&mut *conn)
        .await;
        match head {
            Ok(row) => return Ok((row.try_get(0)?, row.try_get(1)?)),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(NEXT_TRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The statements of the writer.
#[derive(Debug)]
pub(super) struct Statements {
    intents: Inserts,
    conclusions: Inserts,
}

impl Statements {
    pub(super) fn new() -> Self {
        Self {
            intents: Inserts::intents(),
            conclusions: Inserts::conclusions(),
        }
    }

    /// Writes the batch; durable when it answers verdicts.
    pub(super) async fn write(
        &self,
        conn: &mut SqliteConnection,
        known: &mut Known,
        intents: &[Intent],
        conclusions: &[(IntentId, Outcome)],
        now: UnixTime,
    ) -> Result<Verdicts, Fault> {
        let store = |error: sqlx::Error| Fault::Store(error.into());
        let (newest, revision) = begin(conn).await.map_err(store)?;
        let written = async {
            known
                .refresh(conn, revision)
                .await
                .map_err(Broken::Ledger)?;
            let records = self.record(conn, known, intents, newest).await?;
            let conclusions = self.conclude(conn, conclusions, newest, now).await?;
            Ok(Verdicts {
                records,
                conclusions,
            })
        };
        match written.await {
            Ok(verdicts) => {
                sqlx::query("COMMIT")
                    .execute(&mut *conn)
                    .await
                    .map_err(store)?;
                known.committed();
                Ok(verdicts)
            }
            Err(Broken::Sql(error)) if is_constraint(&error) => {
                sqlx::query("ROLLBACK")
                    .execute(&mut *conn)
                    .await
                    .map_err(store)?;
                Err(Fault::Row(error.into()))
            }
            Err(Broken::Sql(error)) => Err(store(error)),
            Err(Broken::Ledger(error)) => Err(Fault::Store(error)),
        }
    }

    async fn record(
        &self,
        conn: &mut SqliteConnection,
        known: &mut Known,
        intents: &[Intent],
        newest: i64,
    ) -> Result<Vec<Result<Record, LedgerError>>, Broken> {
        let mut verdicts = Vec::with_capacity(intents.len());
        let mut admitted = Vec::with_capacity(intents.len());
        let mut next = newest;
        for intent in intents {
            let epoch = known
                .epoch(conn, &intent.epoch)
                .await
                .map_err(Broken::Ledger)?;
            verdicts.push(match (admit(known, intent), epoch) {
                (Ok(issuer), Some(epoch)) => {
                    next += 1;
                    let id = IntentId::new(next);
                    admitted.push(Admitted {
                        id,
                        issuer,
                        epoch,
                        intent,
                    });
                    Ok(Record::New(id))
                }
                (refusal, epoch) => match earlier(conn, intent).await? {
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
        known.widen(conn, &admitted).await?;
        if inserted < admitted.len() {
            let present: Vec<i64> =
                sqlx::query_scalar("SELECT id FROM intent WHERE id > ? ORDER BY id")
                    .bind(newest)
                    .fetch_all(&mut *conn)
                    .await?;
            for (verdict, intent) in verdicts.iter_mut().zip(intents) {
                let Ok(Record::New(id)) = verdict else {
                    continue;
                };
                if present.binary_search(&id.get()).is_err() {
                    *verdict = left_out(conn, intent).await?;
                }
            }
        }
        Ok(verdicts)
    }

    async fn conclude(
        &self,
        conn: &mut SqliteConnection,
        conclusions: &[(IntentId, Outcome)],
        newest: i64,
        at: UnixTime,
    ) -> Result<Vec<Result<(), LedgerError>>, Broken> {
        let is_known = |intent: &IntentId| (1..=newest).contains(&intent.get());
        let rows: Vec<_> = conclusions
            .iter()
            .filter(|(intent, _)| is_known(intent))
            .map(|(intent, outcome)| Concluding {
                intent: *intent,
                outcome,
                at,
            })
            .collect();
        let inserted = self.conclusions.run(conn, &rows).await?;
        let all_new = inserted == rows.len();
        let mut verdicts = Vec::with_capacity(conclusions.len());
        for (intent, outcome) in conclusions {
            verdicts.push(if !is_known(intent) {
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
        Ok(verdicts)
    }
}

enum Broken {
    Sql(sqlx::Error),
    Ledger(LedgerError),
}

impl From<sqlx::Error> for Broken {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// The issuer's row, when it may sign what is asked.
fn admit(known: &Known, intent: &Intent) -> Result<i64, LedgerError> {
    let issuer = known
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

/// Why there was no room for an intent: its origin or its serial was there before.
async fn left_out(
    conn: &mut SqliteConnection,
    intent: &Intent,
) -> Result<Result<Record, LedgerError>, Broken> {
    if let Some(record) = earlier(conn, intent).await? {
        return Ok(Ok(record));
    }
    Ok(Err(match &intent.serial {
        Some(serial) => LedgerError::SerialTaken {
            issuer: intent.issuer.clone(),
            serial: *serial,
        },
        None => LedgerError::Damaged("an intent met a row that is not there".to_owned()),
    }))
}

/// What was recorded before for the same origin.
async fn earlier(conn: &mut SqliteConnection, intent: &Intent) -> Result<Option<Record>, Broken> {
    let Some(origin) = &intent.origin else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT intent.id, tbs, issuer.key, algorithm, ca_certificate
         FROM intent JOIN issuer ON issuer.id = intent.issuer WHERE origin = ?",
    )
    .bind(origin)
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
            row.word("key")?,
            row.algorithm("algorithm")?,
            ca_certificate,
        ))
    };
    let (id, tbs, issuer_id, algorithm, ca_certificate) = read().map_err(Broken::Ledger)?;
    Ok(Some(Record::Existing {
        id,
        tbs,
        issuer_id,
        algorithm,
        ca_certificate: ca_certificate.map(CaCertificateId::new),
        outcome: outcome_of(conn, id).await?,
    }))
}

/// The conclusion on record.
async fn outcome_of(
    conn: &mut SqliteConnection,
    intent: IntentId,
) -> Result<Option<Outcome>, Broken> {
    let row = sqlx::query("SELECT state, signature, reason FROM conclusion WHERE intent = ?")
        .bind(intent.get())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    outcome(&Columns(&row)).map_err(Broken::Ledger)
}

/// The outcome in the columns `state`, `signature`, `reason`.
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
