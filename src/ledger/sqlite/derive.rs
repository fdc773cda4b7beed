//! What the writer keeps beside the rows, made from rows that another store had.

use futures_util::FutureExt as _;

use sqlx::SqliteConnection;

use super::Sqlite;
use super::block_range_index::seal_complete;
use crate::ledger::LedgerError;

/// The bits of `issuers` are distinct powers of two: their sum is their union.
const SPANS: &str = "INSERT INTO span (span, recorded_min, recorded_max, expires_min, expires_max, issuers)
    SELECT id >> 12, min(recorded_at), max(recorded_at),
        coalesce(min(not_after), 9223372036854775807), coalesce(max(not_after), -9223372036854775808),
        sum(DISTINCT (1 << (issuer % 62)))
    FROM intent GROUP BY id >> 12
    ON CONFLICT DO NOTHING";

impl Sqlite {
    /// The block range index of all intents.
    pub(in crate::ledger) async fn derive(&self) -> Result<(), LedgerError> {
        self.transact(|conn| {
            async move {
                sqlx::query(SPANS).execute(conn).await?;
                Ok(())
            }
            .boxed()
        })
        .await?;
        // A few at a time, until none is complete.
        loop {
            let left = self.transact(|conn| seal(conn).boxed()).await?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// How many complete spans are left.
async fn seal(conn: &mut SqliteConnection) -> Result<i64, LedgerError> {
    seal_complete(&mut *conn).await?;
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM span WHERE sealed = 0
            AND span < (SELECT coalesce(max(id), 0) + 1 FROM intent) >> 12",
    )
    .fetch_one(conn)
    .await?)
}
