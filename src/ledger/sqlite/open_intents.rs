//! The search for open intents.

use sqlx::SqliteConnection;

use crate::clock::UnixTime;
use crate::ledger::sql::{OpenIntents, boot};
use crate::ledger::{Epoch, LedgerError};

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
                AND CASE WHEN epoch.instance = $1 THEN epoch.boot < $2
                         ELSE instance.lease_until <= $3 END
             ORDER BY intent.id",
        )
        .bind(&epoch.instance)
        .bind(boot(epoch))
        .bind(now.secs())
        .fetch_all(conn)
        .await?,
    ))
}
