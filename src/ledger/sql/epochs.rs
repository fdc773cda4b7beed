//! Instances, their epochs and leases, and their open intents.

use std::time::Duration;

use super::columns::{Columns, state_code};
use super::connection::{Connection, query, query_scalar};
use crate::clock::UnixTime;
use crate::ledger::{Epoch, IntentId, LedgerError, Outcome, State};

/// The caller holds the transaction.
pub(in crate::ledger) async fn register(
    conn: &mut dyn Connection,
    instance: &str,
    lease: Duration,
    now: UnixTime,
) -> Result<Epoch, LedgerError> {
    let row = query(
        "INSERT INTO instance (name, boot, lease, lease_until) VALUES ($1, 1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET boot = instance.boot + 1, lease = excluded.lease,
            lease_until = excluded.lease_until
         RETURNING boot",
    )
    .bind(instance)
    .bind(i64::try_from(lease.as_secs()).unwrap_or(i64::MAX))
    .bind(now.plus(lease).secs())
    .fetch_one(&mut *conn)
    .await?;
    let boot: i64 = Columns::of(&row).get("boot")?;
    query("INSERT INTO epoch (instance, boot, registered_at) VALUES ($1, $2, $3)")
        .bind(instance)
        .bind(boot)
        .bind(now.secs())
        .execute(conn)
        .await?;
    Ok(Epoch {
        instance: instance.to_owned(),
        boot: Columns::of(&row).number("boot")?,
    })
}

/// The caller holds the transaction.
pub(in crate::ledger) async fn renew(
    conn: &mut dyn Connection,
    epoch: &Epoch,
    now: UnixTime,
) -> Result<(), LedgerError> {
    let updated =
        query("UPDATE instance SET lease_until = $1 + lease WHERE name = $2 AND boot = $3")
            .bind(now.secs())
            .bind(&epoch.instance)
            .bind(boot(epoch))
            .execute(conn)
            .await?;
    if updated == 0 {
        return Err(unknown_epoch(epoch));
    }
    Ok(())
}

/// Open intents to conclude, found before the transaction that concludes them: the search must not
/// delay issuance.
pub(in crate::ledger) struct OpenIntents(pub(in crate::ledger) Vec<i64>);

/// Concludes the open intents that still qualify; the caller holds the transaction.
pub(in crate::ledger) async fn reconcile(
    conn: &mut dyn Connection,
    epoch: &Epoch,
    open: &OpenIntents,
    now: UnixTime,
    concluded_at: UnixTime,
) -> Result<u64, LedgerError> {
    let current: Option<i64> = query_scalar("SELECT boot FROM instance WHERE name = $1")
        .bind(&epoch.instance)
        .fetch_optional(&mut *conn)
        .await?;
    // A superseded epoch would conclude its successor's intents.
    if current != Some(boot(epoch)) {
        return Err(unknown_epoch(epoch));
    }
    let by = format!(", concluded by epoch {} of {}", epoch.boot, epoch.instance);
    let mut concluded = 0;
    for id in &open.0 {
        // Skips an intent concluded since, or whose instance has renewed its lease.
        let inserted = query(
            "INSERT INTO conclusion (intent, state, reason, concluded_at)
             SELECT intent.id, 3, 'left open by epoch ' || epoch.boot || ' of ' || epoch.instance
                || CAST($6 AS TEXT), CAST($5 AS BIGINT)
             FROM intent JOIN epoch ON epoch.id = intent.epoch
             JOIN instance ON instance.name = epoch.instance
             WHERE intent.id = $1
                AND CASE WHEN epoch.instance = $2 THEN epoch.boot < $3
                         ELSE instance.lease_until <= $4 END
             ON CONFLICT DO NOTHING",
        )
        .bind(*id)
        .bind(&epoch.instance)
        .bind(boot(epoch))
        .bind(now.secs())
        .bind(concluded_at.secs())
        .bind(&by)
        .execute(&mut *conn)
        .await?;
        concluded += inserted;
    }
    Ok(concluded)
}

/// The caller holds the transaction.
pub(in crate::ledger) async fn reopen(
    conn: &mut dyn Connection,
    intent: IntentId,
    outcome: &Outcome,
    at: UnixTime,
) -> Result<(), LedgerError> {
    if let Outcome::Failed { .. } = outcome {
        return Err(LedgerError::Refused(format!(
            "intent {intent} can be reopened as issued or unknown, not as failed"
        )));
    }
    let row = query(
        "SELECT intent.id, state, signature FROM intent
         LEFT JOIN conclusion ON intent = intent.id WHERE intent.id = $1",
    )
    .bind(intent.get())
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(LedgerError::UnknownIntent(intent))?;
    let row = Columns::of(&row);
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
            query(
                "UPDATE conclusion SET state = $1, signature = $2, concluded_at = $3 WHERE intent = $4",
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
            query(
                "UPDATE conclusion SET state = $1, reason = reason || '; ' || $2, concluded_at = $3
                 WHERE intent = $4",
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

pub(in crate::ledger) fn boot(epoch: &Epoch) -> i64 {
    i64::try_from(epoch.boot).unwrap_or(i64::MAX)
}

pub(super) fn unknown_epoch(epoch: &Epoch) -> LedgerError {
    LedgerError::UnknownEpoch {
        instance: epoch.instance.clone(),
        boot: epoch.boot,
    }
}
