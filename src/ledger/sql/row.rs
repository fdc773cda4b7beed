//! A row, whichever store has returned it.

use std::fmt::Display;

use crate::ledger::LedgerError;

/// A row that a store has returned; `None` is NULL.
pub(in crate::ledger) trait RowSource: Send + Sync {
    fn int(&self, column: &str) -> Result<Option<i64>, LedgerError>;
    fn text(&self, column: &str) -> Result<Option<&str>, LedgerError>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, LedgerError>;
    /// The name of the first column.
    fn first(&self) -> &str;
}

pub(in crate::ledger) type Row = Box<dyn RowSource>;

pub(in crate::ledger) fn damaged(column: &str, error: impl Display) -> LedgerError {
    LedgerError::Damaged(format!("column {column}: {error}"))
}
