//! The mark of a store that a ledger is being copied into.

use super::connection::{Connection, query_scalar};
use crate::ledger::LedgerError;

/// The table that is there until the copy has ended.
pub(in crate::ledger) const MARK: &str = "rootbridge_copy";

/// Whether a SQLite file bears the mark.
pub(in crate::ledger) const SQLITE_MARKED: &str =
    "SELECT count(*) AS n FROM sqlite_master WHERE name = 'rootbridge_copy'";
/// Whether a database does.
pub(in crate::ledger) const POSTGRES_MARKED: &str =
    "SELECT CAST(to_regclass('rootbridge_copy') IS NOT NULL AS int) AS n";

/// Refuses half a ledger.
pub(in crate::ledger) async fn require_finished(
    conn: &mut dyn Connection,
    marked: &'static str,
    name: &str,
) -> Result<(), LedgerError> {
    let is_marked: bool = query_scalar(marked).fetch_one(conn).await?;
    match is_marked {
        false => Ok(()),
        true => Err(LedgerError::Refused(format!(
            "{name} holds a part of a ledger: a copy into it has not ended (its table {MARK} says so). Run the same \
             `rootbridge ledger copy` again, which goes on with it"
        ))),
    }
}
