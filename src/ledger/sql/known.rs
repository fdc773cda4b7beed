//! What a writer remembers between batches: issuers with their state, and epochs.

use std::collections::HashMap;

use super::columns::Columns;
use super::connection::{Connection, query};
use super::epochs::boot;
use crate::ledger::{Epoch, IssuerId, IssuerState, LedgerError};

#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct KnownIssuer {
    pub(in crate::ledger) row: i64,
    pub(in crate::ledger) state: IssuerState,
}

#[derive(Debug, Default)]
pub(in crate::ledger) struct Known {
    revision: Option<u64>,
    issuers: HashMap<IssuerId, KnownIssuer>,
    epochs: HashMap<Epoch, i64>,
}

impl Known {
    /// Reads the issuers again if the records have changed. `revision` was read in the writer's own
    /// transaction, and no change can come before its commit.
    pub(in crate::ledger) async fn refresh(
        &mut self,
        conn: &mut dyn Connection,
        revision: u64,
    ) -> Result<(), LedgerError> {
        if self.revision == Some(revision) {
            return Ok(());
        }
        self.revision = None;
        self.issuers.clear();
        let rows = query("SELECT id, key, state FROM issuer")
            .fetch_all(conn)
            .await?;
        for row in &rows {
            let row = Columns::of(row);
            let issuer = KnownIssuer {
                row: row.get("id")?,
                state: row.parsed("state")?,
            };
            self.issuers.insert(row.parsed("key")?, issuer);
        }
        self.revision = Some(revision);
        Ok(())
    }

    pub(in crate::ledger) fn issuer(&self, id: &IssuerId) -> Option<KnownIssuer> {
        self.issuers.get(id).copied()
    }

    /// Epochs are never removed.
    pub(in crate::ledger) async fn epoch(
        &mut self,
        conn: &mut dyn Connection,
        epoch: &Epoch,
    ) -> Result<Option<i64>, LedgerError> {
        if let Some(row) = self.epochs.get(epoch) {
            return Ok(Some(*row));
        }
        let row = query("SELECT id FROM epoch WHERE instance = $1 AND boot = $2")
            .bind(&epoch.instance)
            .bind(boot(epoch))
            .fetch_optional(conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row: i64 = Columns::of(&row).get("id")?;
        self.epochs.insert(epoch.clone(), row);
        Ok(Some(row))
    }
}
