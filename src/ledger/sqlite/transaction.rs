//! Write transactions.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::{Row, SqliteConnection};

use super::values::is_busy;
use crate::ledger::LedgerError;

/// How long the writer waits for the write lock, which other processes take as well.
const WRITE_LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// A server under load releases the lock for microseconds at a time; SQLite's own wait, whose
/// intervals grow to 100 ms, would rarely try within so short a time: a command would fail beside a
/// server whose disk is slow.
const RETRY_INTERVAL: Duration = Duration::from_micros(300);

/// Takes the write lock, and returns the newest intent's id and the revision.
pub(super) async fn begin(conn: &mut SqliteConnection) -> Result<(i64, u64), sqlx::Error> {
    let deadline = Instant::now() + WRITE_LOCK_TIMEOUT;
    loop {
        let result = sqlx::query(
            "BEGIN IMMEDIATE;
             SELECT coalesce((SELECT max(id) FROM intent), 0), (SELECT value FROM revision)",
        )
        .fetch_one(&mut *conn)
        .await;
        match result {
            Ok(row) => return Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs())),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug)]
pub(super) enum TransactionError {
    Connection(sqlx::Error),
    Refused(LedgerError),
}

/// Runs `work` in a transaction; the second result says whether the connection may be used again.
pub(super) async fn in_transaction<T, F>(
    conn: &mut SqliteConnection,
    work: F,
) -> (Result<T, TransactionError>, bool)
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>,
{
    if let Err(error) = begin(conn).await {
        return (Err(TransactionError::Connection(error)), false);
    }
    match work(conn).await {
        Ok(result) => match sqlx::query("COMMIT").execute(&mut *conn).await {
            Ok(_) => (Ok(result), true),
            Err(error) => (Err(TransactionError::Connection(error)), false),
        },
        Err(error) => {
            let usable = !matches!(
                error,
                LedgerError::Unavailable { .. } | LedgerError::Damaged(_)
            );
            let rolled_back = sqlx::query("ROLLBACK").execute(&mut *conn).await.is_ok();
            (Err(TransactionError::Refused(error)), usable && rolled_back)
        }
    }
}
