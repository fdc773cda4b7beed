//! The table `span` is a block range index: a row summarizes 4,096 consecutive intents. A complete
//! span is sealed: its subjects become an index. If that is late or fails, searches are slower but
//! correct.

use sqlx::SqliteConnection;

use super::writer_state::SPAN_BITS;
use crate::ledger::LedgerError;

/// The most spans sealed in one transaction: each delays issuance by milliseconds.
const AT_ONCE: i64 = 4;

/// Seals complete spans and returns the first unsealed one. The caller holds the transaction, so no
/// intent can be added to them.
pub(super) async fn seal_complete(conn: &mut SqliteConnection) -> Result<i64, LedgerError> {
    let next: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) + 1 FROM intent")
        .fetch_one(&mut *conn)
        .await?;
    let current = next >> SPAN_BITS;
    let complete: Vec<i64> = sqlx::query_scalar(
        "SELECT span FROM span WHERE settled = 0 AND sealed = 0 AND span < ? ORDER BY span LIMIT ?",
    )
    .bind(current)
    .bind(AT_ONCE + 1)
    .fetch_all(&mut *conn)
    .await?;
    let mut spans = complete.into_iter();
    for span in spans.by_ref().take(usize::try_from(AT_ONCE).unwrap_or(1)) {
        sqlx::query(
            "INSERT INTO span_subject (span, subject, intent)
             SELECT ?1, subject, id FROM intent WHERE id >= ?1 << 12 AND id < (?1 + 1) << 12
             ORDER BY subject, id",
        )
        .bind(span)
        .execute(&mut *conn)
        .await?;
        sqlx::query("UPDATE span SET sealed = 1 WHERE span = ?")
            .bind(span)
            .execute(&mut *conn)
            .await?;
    }
    mark_settled(conn).await?;
    Ok(spans.next().unwrap_or(current))
}

/// Marks sealed spans without open intents, so that searches for open intents skip them.
pub(super) async fn mark_settled(conn: &mut SqliteConnection) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE span SET settled = 1 WHERE settled = 0 AND sealed = 1 AND NOT EXISTS (
            SELECT 1 FROM intent WHERE intent.id >= span << 12 AND intent.id < (span + 1) << 12
                AND NOT EXISTS (SELECT 1 FROM conclusion WHERE conclusion.intent = intent.id))",
    )
    .execute(conn)
    .await?;
    Ok(())
}
