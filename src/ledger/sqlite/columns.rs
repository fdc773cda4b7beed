//! Values and errors as SQLite represents them.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::clock::UnixTime;
use crate::ledger::{CallerMethod, Kind, LedgerError, State};
use crate::x509::SignatureAlgorithm;

pub(super) const fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::Leaf => 1,
        Kind::Ca => 2,
        Kind::Request => 3,
    }
}

pub(super) const fn method_code(method: CallerMethod) -> i64 {
    match method {
        CallerMethod::Jwt => 1,
        CallerMethod::Certificate => 2,
        CallerMethod::Operator => 3,
        CallerMethod::Local => 4,
        CallerMethod::TokenReview => 5,
        CallerMethod::ClusterKeys => 6,
        CallerMethod::Object => 7,
    }
}

/// The code in `conclusion.state`; a pending intent has no such row.
pub(super) const fn state_code(state: State) -> i64 {
    match state {
        State::Pending => 0,
        State::Issued => 1,
        State::Failed => 2,
        State::Unknown => 3,
    }
}

pub(super) const fn algorithm_code(algorithm: SignatureAlgorithm) -> i64 {
    match algorithm {
        SignatureAlgorithm::EcdsaSha256 => 1,
        SignatureAlgorithm::EcdsaSha384 => 2,
        SignatureAlgorithm::EcdsaSha512 => 3,
        SignatureAlgorithm::RsaSha256 => 4,
        SignatureAlgorithm::RsaSha384 => 5,
        SignatureAlgorithm::RsaSha512 => 6,
        SignatureAlgorithm::Ed25519 => 7,
        SignatureAlgorithm::RsaPssSha256 => 8,
        SignatureAlgorithm::RsaPssSha384 => 9,
        SignatureAlgorithm::RsaPssSha512 => 10,
    }
}

/// A row's columns by name; an invalid value is [`LedgerError::Damaged`].
pub(super) struct Columns<'r>(pub(super) &'r SqliteRow);

impl<'r> Columns<'r> {
    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, LedgerError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.0
            .try_get(column)
            .map_err(|error| damaged(column, error))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<u64, LedgerError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| damaged(column, error))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<UnixTime, LedgerError> {
        self.get(column).map(UnixTime::from_secs)
    }

    pub(super) fn optional_time(
        &self,
        column: &'static str,
    ) -> Result<Option<UnixTime>, LedgerError> {
        Ok(self.get::<Option<i64>>(column)?.map(UnixTime::from_secs))
    }

    /// Text that is parsed.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
    ) -> Result<T, LedgerError> {
        self.get::<&str>(column)?
            .parse()
            .map_err(|error| damaged(column, error))
    }

    pub(super) fn hash(&self, column: &'static str) -> Result<[u8; 32], LedgerError> {
        self.get::<&[u8]>(column)?
            .try_into()
            .map_err(|error| damaged(column, error))
    }

    pub(super) fn optional_hash(
        &self,
        column: &'static str,
    ) -> Result<Option<[u8; 32]>, LedgerError> {
        self.get::<Option<&[u8]>>(column)?
            .map(|bytes| bytes.try_into().map_err(|error| damaged(column, error)))
            .transpose()
    }

    pub(super) fn kind(&self, column: &'static str) -> Result<Kind, LedgerError> {
        self.code(column, [Kind::Leaf, Kind::Ca, Kind::Request], kind_code)
    }

    pub(super) fn method(&self, column: &'static str) -> Result<CallerMethod, LedgerError> {
        use CallerMethod::{Certificate, ClusterKeys, Jwt, Local, Object, Operator, TokenReview};
        self.code(
            column,
            [
                Jwt,
                Certificate,
                Operator,
                Local,
                TokenReview,
                ClusterKeys,
                Object,
            ],
            method_code,
        )
    }

    /// Pending where there is no conclusion.
    pub(super) fn state(&self, column: &'static str) -> Result<State, LedgerError> {
        if self.get::<Option<i64>>(column)?.is_none() {
            return Ok(State::Pending);
        }
        self.code(
            column,
            [State::Issued, State::Failed, State::Unknown],
            state_code,
        )
    }

    pub(super) fn algorithm(
        &self,
        column: &'static str,
    ) -> Result<SignatureAlgorithm, LedgerError> {
        use SignatureAlgorithm as A;
        let all = [
            A::EcdsaSha256,
            A::EcdsaSha384,
            A::EcdsaSha512,
            A::RsaSha256,
            A::RsaSha384,
            A::RsaSha512,
            A::Ed25519,
            A::RsaPssSha256,
            A::RsaPssSha384,
            A::RsaPssSha512,
        ];
        self.code(column, all, algorithm_code)
    }

    fn code<T: Copy, const N: usize>(
        &self,
        column: &'static str,
        all: [T; N],
        code_of: fn(T) -> i64,
    ) -> Result<T, LedgerError> {
        let code: i64 = self.get(column)?;
        all.into_iter()
            .find(|value| code_of(*value) == code)
            .ok_or_else(|| damaged(column, format!("unknown code {code}")))
    }
}

fn damaged(column: &str, error: impl Display) -> LedgerError {
    LedgerError::Damaged(format!("column {column}: {error}"))
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
