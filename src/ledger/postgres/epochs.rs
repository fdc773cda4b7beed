//! Open intents, and the number below which there are none.

use super::session::Session;
use crate::clock::UnixTime;
use crate::ledger::sql::{Columns, Connection, OpenIntents, boot, query, query_scalar};
use crate::ledger::{Epoch, LedgerError};

/// Open intents of the instance's earlier epochs and of instances whose lease has expired. The caller
/// holds a read transaction.
pub(super) async fn open_intents(
    session: &mut Session,
    epoch: &Epoch,
    now: UnixTime,
) -> Result<OpenIntents, LedgerError> {
    query_scalar(
        "SELECT intent.id FROM intent JOIN epoch ON epoch.id = intent.epoch
            JOIN instance ON instance.name = epoch.instance
         WHERE intent.id >= (SELECT below FROM settled)
            AND NOT EXISTS (SELECT 1 FROM conclusion WHERE conclusion.intent = intent.id)
            AND CASE WHEN epoch.instance = $1 THEN epoch.boot < $2
                     ELSE instance.lease_until <= $3 END
         ORDER BY intent.id",
    )
    .bind(&epoch.instance)
    .bind(boot(epoch))
    .bind(now.secs())
    .fetch_all(session)
    .await
    .map(OpenIntents)
}

/// The database's clock, which is every server's common reference.
pub(super) async fn time(session: &mut Session) -> Result<Option<UnixTime>, LedgerError> {
    let row = query("SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS bigint) AS time")
        .fetch_one(session)
        .await?;
    Columns::of(&row).time("time").map(Some)
}

/// Moves the number up to the first open intent. The caller excludes writers: otherwise an intent with
/// a smaller number may be committed later.
pub(super) async fn settle(conn: &mut dyn Connection) -> Result<(), LedgerError> {
    query(
        "UPDATE settled SET below = coalesce(
            (SELECT intent.id FROM intent WHERE intent.id >= below AND NOT EXISTS
                (SELECT 1 FROM conclusion WHERE conclusion.intent = intent.id)
             ORDER BY intent.id LIMIT 1),
            (SELECT max(id) + 1 FROM intent), below)",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// As [`settle`], past at most so many intents; whether there are more. Nobody writes to the store.
pub(super) async fn settle_some(conn: &mut dyn Connection) -> Result<bool, LedgerError> {
    let below: i64 = query_scalar("SELECT below FROM settled")
        .fetch_one(&mut *conn)
        .await?;
    let moved: i64 = query_scalar(
        "UPDATE settled SET below = coalesce(
            (SELECT intent.id FROM intent WHERE intent.id >= below AND intent.id < below + 100000
                AND NOT EXISTS (SELECT 1 FROM conclusion WHERE conclusion.intent = intent.id)
             ORDER BY intent.id LIMIT 1),
            least(below + 100000, (SELECT max(id) + 1 FROM intent)), below)
         RETURNING below",
    )
    .fetch_one(conn)
    .await?;
    Ok(moved > below)
}
