//! One end of a copy: either store.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::tables::{ALL, ROWS, Table, unknown};
use crate::clock::{Clock, UnixTime};
use crate::ledger::sql::{
    self, Connection, POSTGRES_MARKED, Query, Row, SQLITE_MARKED, Value, query, query_scalar,
    require_finished,
};
use crate::ledger::{
    HighWater, Ledger, LedgerError, LedgerFuture, LedgerStore, OpenMode, Postgres, Sqlite,
};

#[derive(Debug)]
pub(super) enum End {
    Sqlite(String, Box<Sqlite>),
    Postgres(String, Postgres),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Anew,
    Continued,
}

impl End {
    /// A SQLite file is locked as for a server.
    pub(super) async fn source(
        store: &LedgerStore,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let name = store.name();
        let missing = LedgerError::Refused(format!("there is no ledger at {name}"));
        Ok(match store {
            LedgerStore::Sqlite(path) if !path.exists() => return Err(missing),
            LedgerStore::Sqlite(path) => {
                let ledger = Sqlite::open(path, OpenMode::Server, Arc::clone(clock)).await?;
                Self::Sqlite(name, Box::new(ledger))
            }
            LedgerStore::Postgres(settings) => {
                let settings = settings.as_ref().clone();
                let opened = Postgres::open_existing(settings, Arc::clone(clock)).await?;
                Self::Postgres(name, opened.ok_or(missing)?)
            }
        })
    }

    pub(super) async fn target(
        store: &LedgerStore,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let name = store.name();
        Ok(match store {
            LedgerStore::Sqlite(path) => {
                let ledger = Sqlite::open(path, OpenMode::Server, Arc::clone(clock)).await?;
                Self::Sqlite(name, Box::new(ledger))
            }
            LedgerStore::Postgres(settings) => {
                let settings = settings.as_ref().clone();
                Self::Postgres(name, Postgres::open(settings, Arc::clone(clock)).await?)
            }
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sqlite(name, _) | Self::Postgres(name, _) => name,
        }
    }

    fn ledger(&self) -> &dyn Ledger {
        match self {
            Self::Sqlite(_, ledger) => ledger.as_ref(),
            Self::Postgres(_, ledger) => ledger,
        }
    }

    async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        match self {
            Self::Sqlite(_, ledger) => ledger.read(|conn| work(conn)).await,
            Self::Postgres(_, ledger) => ledger.read(|session| work(session)).await,
        }
    }

    async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        match self {
            Self::Sqlite(_, ledger) => ledger.transact(|conn| work(conn)).await,
            Self::Postgres(_, ledger) => ledger.write(|session| work(session)).await,
        }
    }

    /// A migration that this module does not know of would be lost.
    pub(super) async fn require_known_columns(&self) -> Result<(), LedgerError> {
        let columns = match self {
            Self::Sqlite(..) => {
                "SELECT tables.name || '.' || columns.name AS name FROM sqlite_master AS tables
                 JOIN pragma_table_info(tables.name) AS columns
                 WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            }
            Self::Postgres(..) => {
                "SELECT table_name || '.' || column_name AS name FROM information_schema.columns
                 WHERE table_schema = current_schema()"
            }
        };
        let present: Vec<String> = self
            .read(|conn| query_scalar(columns).fetch_all(conn).boxed())
            .await?;
        match unknown(&present).as_slice() {
            [] => Ok(()),
            columns => Err(LedgerError::Refused(format!(
                "{} has columns that this version does not copy, or lacks some: {}",
                self.name(),
                columns.join(", ")
            ))),
        }
    }

    /// No server uses it. A file's lock says so; in a database, their leases.
    pub(super) async fn require_idle(&self, now: UnixTime) -> Result<(), LedgerError> {
        if let Self::Sqlite(..) = self {
            return Ok(());
        }
        let alive: Vec<String> = self
            .read(move |conn| {
                query_scalar("SELECT name FROM instance WHERE lease_until > $1 ORDER BY name")
                    .bind(now.secs())
                    .fetch_all(conn)
                    .boxed()
            })
            .await?;
        match alive.as_slice() {
            [] => Ok(()),
            names => Err(LedgerError::Refused(format!(
                "{} is in use: the leases of {} last. Stop these servers, and wait until their leases have \
                 ended (instance.lease)",
                self.name(),
                names.join(", ")
            ))),
        }
    }

    /// It is no target of a copy that has not ended.
    pub(super) async fn require_whole(&self) -> Result<(), LedgerError> {
        let (name, marked) = (self.name().to_owned(), self.marked());
        self.read(move |conn| async move { require_finished(conn, marked, &name).await }.boxed())
            .await
    }

    fn marked(&self) -> &'static str {
        match self {
            Self::Sqlite(..) => SQLITE_MARKED,
            Self::Postgres(..) => POSTGRES_MARKED,
        }
    }

    /// Marks the target, which is empty or bears the mark of the same copy.
    pub(super) async fn begin(&self, identity: &str) -> Result<Begun, LedgerError> {
        let (name, identity, marked) = (self.name().to_owned(), identity.to_owned(), self.marked());
        self.write(move |conn| {
            async move {
                let is_marked: bool = query_scalar(marked).fetch_one(&mut *conn).await?;
                if is_marked {
                    let of: String = query_scalar("SELECT identity FROM rootbridge_copy")
                        .fetch_one(conn)
                        .await?;
                    return match of == identity {
                        true => Ok(Begun::Continued),
                        false => Err(LedgerError::Refused(format!(
                            "{name} holds a part of another ledger, whose copy has not ended: name an empty \
                             target"
                        ))),
                    };
                }
                for table in ALL.iter() {
                    let rows: i64 = query_scalar(&table.count).fetch_one(&mut *conn).await?;
                    if rows > 0 {
                        return Err(LedgerError::Refused(format!(
                            "{name} is not empty (its table {} has rows): name an empty target",
                            table.name
                        )));
                    }
                }
                query("CREATE TABLE rootbridge_copy (identity TEXT NOT NULL)")
                    .execute(&mut *conn)
                    .await?;
                query("INSERT INTO rootbridge_copy (identity) VALUES ($1)")
                    .bind(identity)
                    .execute(conn)
                    .await?;
                Ok(Begun::Anew)
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn count(&self, table: &'static Table) -> Result<u64, LedgerError> {
        let rows: i64 = self
            .read(|conn| query_scalar(&table.count).fetch_one(conn).boxed())
            .await?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// The key of its last row.
    pub(super) async fn last(
        &self,
        table: &'static Table,
    ) -> Result<Option<Vec<Value<'static>>>, LedgerError> {
        let row = self
            .read(|conn| query(&table.last).fetch_optional(conn).boxed())
            .await?;
        row.map(|row| table.key(&row)).transpose()
    }

    /// The rows that follow a key.
    pub(super) async fn page(
        &self,
        table: &'static Table,
        after: Option<Vec<Value<'static>>>,
    ) -> Result<Vec<Row>, LedgerError> {
        let page = match after {
            None => query(&table.first_page),
            Some(values) => Query {
                sql: &table.next_page,
                values,
            },
        };
        self.read(move |conn| page.fetch_all(conn).boxed()).await
    }

    /// In one transaction.
    pub(super) async fn insert(
        &self,
        table: &'static Table,
        rows: Vec<Vec<Value<'static>>>,
    ) -> Result<(), LedgerError> {
        self.write(move |conn| {
            async move {
                let mut rows = rows.into_iter().peekable();
                while rows.len() >= ROWS {
                    let insert = Query {
                        sql: &table.insert_many,
                        values: rows.by_ref().take(ROWS).flatten().collect(),
                    };
                    insert.execute(&mut *conn).await?;
                }
                for values in rows {
                    let insert = Query {
                        sql: &table.insert_one,
                        values,
                    };
                    insert.execute(&mut *conn).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// What is derived from the rows, then how far the records have come.
    pub(super) async fn finish(&self, revision: i64) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(_, ledger) => ledger.derive().await?,
            Self::Postgres(_, ledger) => ledger.derive().await?,
        }
        self.write(move |conn| {
            query("UPDATE revision SET value = $1")
                .bind(revision)
                .execute(conn)
                .boxed()
        })
        .await
        .map(drop)
    }

    pub(super) async fn revision(&self) -> Result<i64, LedgerError> {
        self.read(|conn| {
            query_scalar("SELECT value FROM revision")
                .fetch_one(conn)
                .boxed()
        })
        .await
    }

    pub(super) async fn identity(&self) -> Result<Option<String>, LedgerError> {
        self.read(|conn| sql::identity(conn).boxed()).await
    }

    pub(super) fn high_water(&self) -> LedgerFuture<'_, HighWater> {
        self.ledger().high_water()
    }

    pub(super) fn behind<'a>(&'a self, mark: &'a HighWater) -> LedgerFuture<'a, Option<String>> {
        self.ledger().behind(mark)
    }

    /// It is a ledger from now on.
    pub(super) async fn end(&self) -> Result<(), LedgerError> {
        self.write(|conn| query("DROP TABLE rootbridge_copy").execute(conn).boxed())
            .await
            .map(drop)
    }

    pub(super) async fn close(&self) {
        self.ledger().close().await;
    }
}
