//! Instances, their epochs and leases, and their open intents.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::block_range_index::mark_settled;
use super::columns::{Columns, state_code};
use crate::clock::UnixTime;
use crate::ledger::{Epoch, IntentId, LedgerError, Outcome, State};

/// The caller holds the transaction.
pub(super) async fn register(
    conn: &mut SqliteConnection,
    instance: &str,
    lease: Duration,
    now: UnixTime,
) -> Result<Epoch, LedgerError> {
    let row = sqlx::query(
        "INSERT INTO instance (name, boot, lease, lease_until) VALUES (?, 1, ?, ?)
         ON CONFLICT DO UPDATE SET boot = boot + 1, lease = excluded.lease,
            lease_until = excluded.lease_until
         RETURNING boot",
    )
    .bind(instance)
    .bind(i64::try_from(lease.as_secs()).unwrap_or(i64::MAX))
    .bind(now.plus(lease).secs())
    .fetch_one(&mut *conn)
    .await?;
    let boot: i64 = row.try_get(0)?;
    sqlx::query("INSERT INTO epoch (instance, boot, registered_at) VALUES (?, ?, ?)")
        .bind(instance)
        .bind(boot)
        .bind(now.secs())
        .execute(conn)
        .await?;
    Ok(Epoch {
        instance: instance.to_owned(),
        boot: Columns(&row).number("boot")?,
    })
}

/// The caller holds the transaction.
pub(super) async fn renew(
    conn: &mut SqliteConnection,
    epoch: &Epoch,
    now: UnixTime,
) -> Result<(), LedgerError> {
    let updated =
        sqlx::query("UPDATE instance SET lease_until = ? + lease WHERE name = ? AND boot = ?")
            .bind(now.secs())
            .bind(&epoch.instance)
            .bind(boot(epoch))
            .execute(conn)
            .await?;
    if updated.rows_affected() == 0 {
        return Err(unknown_epoch(epoch));
    }
    Ok(())
}

/// Open intents to conclude, found before the write lock is taken: the scan must not delay
/// issuance.
pub(super) struct OpenIntents(Vec<i64>);

/// The caller holds a read transaction.
pub(super) async fn open_intents(
    conn: &mut SqliteConnection,
    epoch: &Epoch,
    now: UnixTime,
) -> Result<OpenIntents, LedgerError> {
    Ok(OpenIntents(
        sqlx::query_scalar(
            // The join order matters: from the few unsettled spans to their open intents.
            "SELECT intent.id FROM span INDEXED BY span_open
             CROSS JOIN intent NOT INDEXED
                ON intent.id >= span << 12 AND intent.id < (span + 1) << 12
             CROSS JOIN epoch ON epoch.id = intent.epoch
             CROSS JOIN instance ON instance.name = epoch.instance
             WHERE span.settled = 0
                AND NOT EXISTS (SELECT 1 FROM conclusion WHERE conclusion.intent = intent.id)
                AND CASE WHEN epoch.instance = ?1 THEN epoch.boot < ?2
                         ELSE instance.lease_until <= ?3 END
             ORDER BY intent.id",
        )
        .bind(&epoch.instance)
        .bind(boot(epoch))
        .bind(now.secs())
        .fetch_all(conn)
        .await?,
    ))
}

/// Concludes the open intents that still qualify; the caller holds the transaction.
pub(super) async fn reconcile(
    conn: &mut SqliteConnection,
    epoch: &Epoch,
    open: &OpenIntents,
    now: UnixTime,
    concluded_at: UnixTime,
) -> Result<u64, LedgerError> {
    let current: Option<i64> = sqlx::query_scalar("SELECT boot FROM instance WHERE name = ?")
        .bind(&epoch.instance)
        .fetch_optional(&mut *conn)
        .await?;
    // A superseded epoch would conclude its successor's intents.
    if current != Some(boot(epoch)) {
        return Err(unknown_epoch(epoch));
    }
    let mut concluded = 0;
    for id in &open.0 {
        // Skips an intent concluded since, or whose instance has renewed its lease.
        let inserted = sqlx::query(
            "INSERT INTO conclusion (intent, state, reason, concluded_at)
             SELECT intent.id, 3, 'left open by epoch ' || epoch.boot || ' of ' || epoch.instance
                || ', concluded by epoch ' || ?3 || ' of ' || ?2, ?5
             FROM intent JOIN epoch ON epoch.id = intent.epoch
             JOIN instance ON instance.name = epoch.instance
             WHERE intent.id = ?1
                AND CASE WHEN epoch.instance = ?2 THEN epoch.boot < ?3
                         ELSE instance.lease_until <= ?4 END
             ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(&epoch.instance)
        .bind(boot(epoch))
        .bind(now.secs())
        .bind(concluded_at.secs())
        .execute(&mut *conn)
        .await?;
        concluded += inserted.rows_affected();
    }
    mark_settled(conn).await?;
    Ok(concluded)
}

/// The caller holds the transaction.
pub(super) async fn reopen(
    conn: &mut SqliteConnection,
    intent: IntentId,
    outcome: &Outcome,
    at: UnixTime,
) -> Result<(), LedgerError> {
    if let Outcome::Failed { .. } = outcome {
        return Err(LedgerError::Refused(format!(
            "intent {intent} can be reopened as issued or unknown, not as failed"
        )));
    }
    let row = sqlx::query(
        "SELECT intent.id, state, signature FROM intent
         LEFT JOIN conclusion ON intent = intent.id WHERE intent.id = ?",
    )
    .bind(intent.get())
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(LedgerError::UnknownIntent(intent))?;
    let row = Columns(&row);
    let state = row.state("state")?;
    match (state, outcome) {
        (State::Pending, _) => Err(LedgerError::Refused(format!(
            "intent {intent} is not concluded: conclude it"
        ))),
        (State::Issued, Outcome::Issued { signature })
            if row.get::<&[u8]>("signature")? == signature.as_slice() =>
        {
            Ok(())
        }
        (State::Issued, _) => Err(LedgerError::AlreadyConcluded { intent, state }),
        (_, Outcome::Issued { signature }) => {
            sqlx::query(
                "UPDATE conclusion SET state = ?, signature = ?, concluded_at = ? WHERE intent = ?",
            )
            .bind(state_code(State::Issued))
            .bind(signature.as_slice())
            .bind(at.secs())
            .bind(intent.get())
            .execute(conn)
            .await?;
            Ok(())
        }
        (State::Failed, Outcome::Unknown { reason }) => {
            sqlx::query(
                "UPDATE conclusion SET state = ?, reason = reason || '; ' || ?, concluded_at = ?
                 WHERE intent = ?",
            )
            .bind(state_code(State::Unknown))
            .bind(reason)
            .bind(at.secs())
            .bind(intent.get())
            .execute(conn)
            .await?;
            Ok(())
        }
        (State::Unknown | State::Failed, _) => Ok(()),
    }
}

fn boot(epoch: &Epoch) -> i64 {
    i64::try_from(epoch.boot).unwrap_or(i64::MAX)
}

fn unknown_epoch(epoch: &Epoch) -> LedgerError {
    LedgerError::UnknownEpoch {
        instance: epoch.instance.clone(),
        boot: epoch.boot,
    }
}
