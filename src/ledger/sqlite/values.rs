//! SQLite's rows and errors.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Column as _, Row as _, SqliteConnection};

use super::live_certificates::live_rows;
use crate::ledger::sql::{Connection, Query, Row, RowSource, Value, damaged};
use crate::ledger::{LedgerError, LiveFilter};

impl RowSource for SqliteRow {
    fn int(&self, column: &str) -> Result<Option<i64>, LedgerError> {
        self.try_get(column).map_err(|error| damaged(column, error))
    }

    fn text(&self, column: &str) -> Result<Option<&str>, LedgerError> {
        self.try_get(column).map_err(|error| damaged(column, error))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, LedgerError> {
        self.try_get(column).map_err(|error| damaged(column, error))
    }

    fn first(&self) -> &str {
        self.columns().first().map_or("", |column| column.name())
    }
}

fn arguments(values: Vec<Value<'_>>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value.into_owned()),
            Value::Bytes(value) => arguments.add(value.into_owned()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

impl Connection for SqliteConnection {
    fn rows<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>> {
        async move {
            let rows = sqlx::query_with(query.sql, arguments(query.values)?)
                .fetch_all(self)
                .await?;
            Ok(rows.into_iter().map(|row| Box::new(row) as Row).collect())
        }
        .boxed()
    }

    fn run<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<u64, LedgerError>> {
        async move {
            let done = sqlx::query_with(query.sql, arguments(query.values)?)
                .execute(self)
                .await?;
            Ok(done.rows_affected())
        }
        .boxed()
    }

    fn live_rows<'a>(
        &'a mut self,
        authority: i64,
        filter: &'a LiveFilter,
    ) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>> {
        async move {
            let rows = live_rows(self, authority, filter).await?;
            Ok(rows.into_iter().map(|row| Box::new(row) as Row).collect())
        }
        .boxed()
    }
}

/// SQLite's primary result codes, as far as they are handled.
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOTADB: i32 = 26;

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// Another connection holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(BUSY)
}

/// The schema rejects the row; the connection remains usable.
pub(super) fn is_constraint(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(CONSTRAINT)
}

pub(super) fn is_not_a_database(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(NOTADB)
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        let reason = match primary_code(&error) {
            Some(CONSTRAINT) => {
                return Self::Refused(format!("the ledger's schema forbids it: {error}"));
            }
            Some(CORRUPT | NOTADB) => return Self::Damaged(error.to_string()),
            Some(BUSY) => "another process holds its write lock; try again",
            Some(READONLY) => "the file, its directory or its file system is read-only",
            Some(IOERR) => "the disk failed to read, write or sync",
            Some(FULL) => "the disk is full: free some space",
            Some(CANTOPEN) => {
                "a file cannot be opened or created: check that the directory exists and that this user may write to it"
            }
            _ => "the store failed",
        };
        Self::unavailable(format!("{reason} ({error})"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

    use super::*;

    /// SQLite's own errors, each with what it is for an operator.
    #[tokio::test]
    async fn what_sqlite_says_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let connect = async |name: &str| {
            let options = SqliteConnectOptions::new()
                .filename(dir.path().join(name))
                .create_if_missing(true)
                .busy_timeout(Duration::ZERO);
            options.connect().await
        };
        let fails = async |connection: &mut SqliteConnection, sql: &'static str| {
            let result = sqlx::raw_sql(sql).execute(connection).await;
            let error = result.map(drop).unwrap_err();
            assert_eq!(is_busy(&error), primary_code(&error) == Some(BUSY));
            (is_constraint(&error), LedgerError::from(error))
        };
        let mut one = connect("a").await.unwrap();
        let fill = "CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (1)";
        sqlx::raw_sql(fill).execute(&mut one).await.unwrap();
        let (violates, error) = fails(&mut one, "INSERT INTO t VALUES (1)").await;
        assert!(violates && matches!(error, LedgerError::Refused(_)));
        let unavailable = |(violates, error): (bool, LedgerError), says: &str| {
            assert!(matches!(&error, LedgerError::Unavailable { reason } if reason.contains(says)));
            assert!(!violates && error.is_outage(), "{error}");
        };

        let mut two = connect("a").await.unwrap();
        let lock = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut two).await;
        lock.unwrap();
        let write = "INSERT INTO t VALUES (2)";
        unavailable(fails(&mut one, write).await, "write lock; try again");
        // Dropped, it would be closed later.
        two.close().await.unwrap();
        let full = "PRAGMA max_page_count = 3; INSERT INTO t VALUES (zeroblob(100000))";
        unavailable(fails(&mut one, full).await, "the disk is full");
        let read_only = "PRAGMA query_only = on; INSERT INTO t VALUES (2)";
        unavailable(fails(&mut one, read_only).await, "read-only");

        let missing = connect("missing/a").await.unwrap_err();
        let missing = (is_constraint(&missing), LedgerError::from(missing));
        unavailable(missing, "check that the directory exists");
        std::fs::write(dir.path().join("text"), "x".repeat(4096)).unwrap();
        let text = match connect("text").await {
            Ok(mut opened) => fails(&mut opened, "SELECT * FROM sqlite_schema").await.1,
            Err(error) => error.into(),
        };
        assert!(matches!(text, LedgerError::Damaged(_)), "{text}");
    }
}
