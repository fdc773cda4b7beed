//! Leases on work: who holds one, and the check that every fenced transaction makes.

use super::columns::Columns;
use super::connection::{Connection, query};
use super::epochs::{boot, unknown_epoch};
use crate::clock::UnixTime;
use crate::ledger::{Claim, ClaimFrom, Epoch, LedgerError, WorkLease, WorkLeaseRecord};

/// What a claim finds.
pub(in crate::ledger) enum Found {
    Answer(Claim),
    /// It may be taken; the fence is that of its last holder, `None` if it never had one.
    Free(Option<i64>),
}

/// Reads only. The caller holds a transaction.
pub(in crate::ledger) async fn look(
    conn: &mut dyn Connection,
    (work, from): (&str, ClaimFrom),
    epoch: &Epoch,
    now: UnixTime,
) -> Result<Found, LedgerError> {
    let own = query("SELECT boot, lease_until FROM instance WHERE name = $1")
        .bind(&epoch.instance)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or_else(|| unknown_epoch(epoch))?;
    let own = Columns::of(&own);
    if own.get::<i64>("boot")? != boot(epoch) {
        return Err(unknown_epoch(epoch));
    }
    if own.time("lease_until")? <= now {
        return Err(LedgerError::Refused(format!(
            "the lease of instance {} has run out: it claims work once it has renewed it",
            epoch.instance
        )));
    }
    let row = query(
        "SELECT work_lease.holder, work_lease.boot, work_lease.fence,
            coalesce(instance.lease_until, 0) AS lease_until, coalesce(instance.boot, 0) AS newest
         FROM work_lease LEFT JOIN instance ON instance.name = work_lease.holder WHERE work = $1",
    )
    .bind(work)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else {
        return Ok(Found::Free(None));
    };
    let row = Columns::of(&row);
    let fence: i64 = row.get("fence")?;
    let Some(holder) = row.get::<Option<String>>("holder")? else {
        return Ok(Found::Free(Some(fence)));
    };
    let held_boot: i64 = row.get("boot")?;
    if holder == epoch.instance && held_boot == boot(epoch) {
        return Ok(Found::Answer(Claim::Held(WorkLease {
            work: work.to_owned(),
            fence: row.number("fence")?,
        })));
    }
    let is_alive = row.time("lease_until")? > now && row.get::<i64>("newest")? == held_boot;
    Ok(match is_alive && from == ClaimFrom::TheDead {
        true => Found::Answer(Claim::HeldBy(holder)),
        false => Found::Free(Some(fence)),
    })
}

/// The caller holds a transaction that excludes every other writer.
pub(in crate::ledger) async fn claim(
    conn: &mut dyn Connection,
    (work, from): (&str, ClaimFrom),
    epoch: &Epoch,
    now: UnixTime,
) -> Result<Claim, LedgerError> {
    let last = match look(conn, (work, from), epoch, now).await? {
        Found::Answer(claim) => return Ok(claim),
        Found::Free(last) => last,
    };
    let statement = match last {
        None => {
            "INSERT INTO work_lease (work, holder, boot, since, fence) VALUES ($1, $2, $3, $4, 1)
             RETURNING fence"
        }
        Some(_) => {
            "UPDATE work_lease SET holder = $2, boot = $3, since = $4, fence = fence + 1
             WHERE work = $1 RETURNING fence"
        }
    };
    let row = query(statement)
        .bind(work)
        .bind(&epoch.instance)
        .bind(boot(epoch))
        .bind(now.secs())
        .fetch_one(conn)
        .await?;
    Ok(Claim::Held(WorkLease {
        work: work.to_owned(),
        fence: Columns::of(&row).number("fence")?,
    }))
}

/// Another server need not wait for the end of the holder's lease. The caller holds a transaction that
/// excludes every other writer.
pub(in crate::ledger) async fn give_up(
    conn: &mut dyn Connection,
    lease: &WorkLease,
) -> Result<(), LedgerError> {
    query("UPDATE work_lease SET holder = NULL WHERE work = $1 AND fence = $2")
        .bind(&lease.work)
        .bind(number(lease))
        .execute(conn)
        .await
        .map(drop)
}

/// Refuses what a server does with a lease that it has lost. The caller holds the transaction of what is
/// done, during which no lease changes hands.
pub(in crate::ledger) async fn require(
    conn: &mut dyn Connection,
    lease: &WorkLease,
) -> Result<(), LedgerError> {
    let row = query("SELECT holder, fence FROM work_lease WHERE work = $1")
        .bind(&lease.work)
        .fetch_optional(conn)
        .await?;
    let (mut holder, mut fence) = (None, 0);
    if let Some(row) = row {
        let row = Columns::of(&row);
        holder = row.get::<Option<String>>("holder")?;
        fence = row.get("fence")?;
    }
    match holder.is_some() && fence == number(lease) {
        true => Ok(()),
        false => Err(LedgerError::LeaseLost {
            work: lease.work.clone(),
            holder: holder.unwrap_or_else(|| "nobody".to_owned()),
        }),
    }
}

/// By name.
pub(in crate::ledger) async fn work_leases(
    conn: &mut dyn Connection,
) -> Result<Vec<WorkLeaseRecord>, LedgerError> {
    let rows = query("SELECT work, holder, fence, since FROM work_lease ORDER BY work")
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row);
            Ok(WorkLeaseRecord {
                lease: WorkLease {
                    work: row.get("work")?,
                    fence: row.number("fence")?,
                },
                holder: row.get("holder")?,
                since: row.time("since")?,
            })
        })
        .collect()
}

fn number(lease: &WorkLease) -> i64 {
    i64::try_from(lease.fence).unwrap_or(i64::MAX)
}
