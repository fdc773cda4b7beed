//! What the store keeps beside the rows, made from rows that another store had.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Postgres;
use super::epochs;
use super::pool::Excludes;
use crate::ledger::LedgerError;
use crate::ledger::sql::Connection;

/// The columns that number rows, and the sequence of intents.
const SEQUENCES: &str = "DO $$ DECLARE each record; BEGIN
    FOR each IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND is_identity = 'YES'
    LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM %I',
            quote_ident(each.table_name), each.column_name, each.column_name, each.table_name);
    END LOOP;
    PERFORM setval('intent_id', coalesce(max(id), 0) + 1, false) FROM intent;
END $$";

impl Postgres {
    /// The next numbers, and the number below which every intent is concluded.
    pub(in crate::ledger) async fn derive(&self) -> Result<(), LedgerError> {
        self.transact(Excludes::Nobody, |session| {
            async move {
                // Of a large table.
                session.simple("SET LOCAL statement_timeout = 0").await?;
                session.simple(SEQUENCES).await
            }
            .boxed()
        })
        .await?;
        // A part at a time: the whole of a large table takes longer than a statement may.
        while self.write(|conn| epochs::settle_some(conn).boxed()).await? {}
        Ok(())
    }

    /// Runs `work` in a transaction that excludes no other.
    pub(in crate::ledger) async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        self.transact(Excludes::Nobody, |session| work(session))
            .await
    }

    /// Runs `work` in a read-only transaction.
    pub(in crate::ledger) async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Result<T, LedgerError>>,
    {
        self.pool.read(|session| work(session)).await
    }
}
