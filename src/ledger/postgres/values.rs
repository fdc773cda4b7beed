//! PostgreSQL's values and rows.

use std::error::Error;

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::live_certificates::live_rows;
use super::session::Session;
use crate::ledger::sql::{Connection, Query, Row, RowSource, Value, damaged};
use crate::ledger::{LedgerError, LiveFilter};

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(&Type::INT8, out),
            Self::Text(value) => value.as_ref().to_sql(&Type::TEXT, out),
            Self::Bytes(value) => value.as_ref().to_sql(&Type::BYTEA, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The type that a value is sent as; the server infers that of NULL.
const fn type_of(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::UNKNOWN,
        Value::Int(_) => Type::INT8,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
    }
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

fn parameters<'a>(values: &'a [Value<'a>]) -> Vec<Parameter<'a>> {
    values
        .iter()
        .map(|value| (value as &(dyn ToSql + Sync), type_of(value)))
        .collect()
}

impl Connection for Session {
    fn rows<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>> {
        async move {
            let rows = self.query(query.sql, &parameters(&query.values)).await?;
            Ok(rows.into_iter().map(|row| Box::new(row) as Row).collect())
        }
        .boxed()
    }

    fn run<'a>(&'a mut self, query: Query<'a>) -> BoxFuture<'a, Result<u64, LedgerError>> {
        async move { self.execute(query.sql, &parameters(&query.values)).await }.boxed()
    }

    fn live_rows<'a>(
        &'a mut self,
        authority: i64,
        filter: &'a LiveFilter,
    ) -> BoxFuture<'a, Result<Vec<Row>, LedgerError>> {
        live_rows(self, authority, filter).boxed()
    }
}

/// A number of any width, or a truth value.
struct Int(i64);

impl<'a> FromSql<'a> for Int {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *ty {
            Type::BOOL => bool::from_sql(ty, raw)?.into(),
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            _ => i64::from_sql(ty, raw)?,
        }))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::BOOL | Type::INT2 | Type::INT4 | Type::INT8)
    }
}

impl RowSource for tokio_postgres::Row {
    fn int(&self, column: &str) -> Result<Option<i64>, LedgerError> {
        let value: Option<Int> = self
            .try_get(column)
            .map_err(|error| damaged(column, error))?;
        Ok(value.map(|value| value.0))
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
