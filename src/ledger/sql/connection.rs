//! Statements and rows, whichever store runs them.
//!
//! The SQL of this directory is what SQLite and PostgreSQL both understand, with `$1` for a value.
//! Integers are 64 bits wide in both schemas, text is compared octet by octet.

use std::borrow::Cow;

use futures_util::future::BoxFuture;

use super::columns::{Columns, FromColumn};
use super::row::{Row, damaged};
use crate::ledger::{LedgerError, LiveFilter};

/// A connection inside a transaction.
pub(in crate::ledger) trait Connection: Send {
    /// The rows of a statement.
    fn rows<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>>;

    /// How many rows a statement has changed.
    fn run<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<u64, LedgerError>>;

    /// The certificates of an authority that may be valid, grouped by who holds them.
    fn live_rows<'a>(
        &'a mut self,
        authority: i64,
        filter: &'a LiveFilter,
    ) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>>;
}

#[derive(Clone, Debug)]
pub(in crate::ledger) enum Value<'q> {
    Null,
    Int(i64),
    Text(Cow<'q, str>),
    Bytes(Cow<'q, [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u8> for Value<'_> {
    fn from(value: u8) -> Self {
        Self::Int(value.into())
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(value: &'q str) -> Self {
        Self::Text(value.into())
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(value: &'q String) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(value: &'q [u8]) -> Self {
        Self::Bytes(value.into())
    }
}

impl<'q> From<&'q Vec<u8>> for Value<'q> {
    fn from(value: &'q Vec<u8>) -> Self {
        Self::Bytes(value.into())
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value.into())
    }
}

impl<'q, T: Into<Self>> From<Option<T>> for Value<'q> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Query<'q> {
    pub(in crate::ledger) sql: &'static str,
    pub(in crate::ledger) values: Vec<Value<'q>>,
}

pub(in crate::ledger) fn query<'q>(sql: &'static str) -> Query<'q> {
    Query {
        sql,
        values: Vec::new(),
    }
}

impl<'q> Query<'q> {
    pub(in crate::ledger) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(in crate::ledger) async fn execute(
        self,
        conn: &mut dyn Connection,
    ) -> Result<u64, LedgerError> {
        conn.run(self).await
    }

    pub(in crate::ledger) async fn fetch_all(
        self,
        conn: &mut dyn Connection,
    ) -> Result<Vec<Row>, LedgerError> {
        conn.rows(self).await
    }

    pub(in crate::ledger) async fn fetch_optional(
        self,
        conn: &mut dyn Connection,
    ) -> Result<Option<Row>, LedgerError> {
        Ok(conn.rows(self).await?.into_iter().next())
    }

    pub(in crate::ledger) async fn fetch_one(
        self,
        conn: &mut dyn Connection,
    ) -> Result<Row, LedgerError> {
        let sql = self.sql;
        self.fetch_optional(conn)
            .await?
            .ok_or_else(|| damaged(sql, "no row"))
    }
}

/// A statement whose rows have one column.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct ScalarQuery<'q>(Query<'q>);

pub(in crate::ledger) fn query_scalar<'q>(sql: &'static str) -> ScalarQuery<'q> {
    ScalarQuery(query(sql))
}

impl<'q> ScalarQuery<'q> {
    pub(in crate::ledger) fn bind(self, value: impl Into<Value<'q>>) -> Self {
        Self(self.0.bind(value))
    }

    pub(in crate::ledger) async fn fetch_all<T>(
        self,
        conn: &mut dyn Connection,
    ) -> Result<Vec<T>, LedgerError>
    where
        T: for<'r> FromColumn<'r>,
    {
        let rows = self.0.fetch_all(conn).await?;
        rows.iter().map(scalar).collect()
    }

    pub(in crate::ledger) async fn fetch_optional<T>(
        self,
        conn: &mut dyn Connection,
    ) -> Result<Option<T>, LedgerError>
    where
        T: for<'r> FromColumn<'r>,
    {
        let row = self.0.fetch_optional(conn).await?;
        row.as_ref().map(scalar).transpose()
    }

    pub(in crate::ledger) async fn fetch_one<T>(
        self,
        conn: &mut dyn Connection,
    ) -> Result<T, LedgerError>
    where
        T: for<'r> FromColumn<'r>,
    {
        scalar(&self.0.fetch_one(conn).await?)
    }
}

fn scalar<T: for<'r> FromColumn<'r>>(row: &Row) -> Result<T, LedgerError> {
    Columns::of(row).get(row.first())
}
