//! Transactions that are no batch: changes of the records on the writer's connection, reading on
//! another.

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;

use super::batch::begin;
use super::open::with_path;
use super::writer::{Job, LentConnection};
use super::{Sqlite, closed};
use crate::ledger::LedgerError;

impl Sqlite {
    /// Runs `work` in a transaction of the writer's connection, between two batches. It goes on
    /// when the caller is dropped, because the writer waits for the connection.
    pub(super) async fn transact<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        let jobs = self.jobs.clone();
        let path = self.connector.path().to_owned();
        let task = tokio::spawn(async move {
            let (reply, answer) = oneshot::channel();
            jobs.send(Job::Lend(reply)).await.map_err(|_| closed())?;
            let LentConnection {
                mut conn,
                give_back,
            } = answer.await.map_err(|_| closed())??;
            let (done, fit) = in_transaction(&mut conn, work).await;
            if fit {
                // The writer may have been dropped meanwhile, with its runtime.
                let _ = give_back.send(conn);
            } else {
                let _ = conn.close().await;
                drop(give_back);
            }
            done.map_err(|failure| match failure {
                Failure::Connection(error) => with_path(&path, error),
                Failure::Work(error) => error,
            })
        });
        task.await.map_err(|error| {
            LedgerError::unavailable(format!("a transaction was broken off: {error}"))
        })?
    }

    /// Runs `work` on a connection that only reads, and sees one moment.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
    {
        let failed = |error| with_path(self.connector.path(), error);
        let mut transaction = self.readers.begin().await.map_err(failed)?;
        let done = work(&mut transaction).await;
        // Nothing was written; the transaction ends either way.
        let _ = transaction.rollback().await;
        done
    }
}

#[derive(Debug)]
pub(super) enum Failure {
    Connection(sqlx::Error),
    Work(LedgerError),
}

/// Also answers whether the connection may be used again.
pub(super) async fn in_transaction<T, F>(
    conn: &mut SqliteConnection,
    work: F,
) -> (Result<T, Failure>, bool)
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>,
{
    if let Err(error) = begin(conn).await {
        return (Err(Failure::Connection(error)), false);
    }
    match work(conn).await {
        Ok(done) => match sqlx::query("COMMIT").execute(&mut *conn).await {
            Ok(_) => (Ok(done), true),
            Err(error) => (Err(Failure::Connection(error)), false),
        },
        Err(error) => {
            let well = !matches!(
                error,
                LedgerError::Unavailable { .. } | LedgerError::Damaged(_)
            );
            let undone = sqlx::query("ROLLBACK").execute(&mut *conn).await.is_ok();
            (Err(Failure::Work(error)), well && undone)
        }
    }
}
