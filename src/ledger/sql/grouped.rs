//! Rows of one statement for many parents: a statement for each parent would be thousands.

use std::collections::HashMap;

use super::columns::Columns;
use super::row::Row;
use crate::ledger::LedgerError;

/// What was read of rows, by their parent's row number, in the rows' order.
pub(super) struct Grouped<T>(HashMap<i64, Vec<T>>);

impl<T> Grouped<T> {
    /// `parent` is the column of the parent's row number.
    pub(super) fn of(
        rows: &[Row],
        parent: &str,
        mut read: impl FnMut(&Columns<'_>) -> Result<T, LedgerError>,
    ) -> Result<Self, LedgerError> {
        let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
        for row in rows {
            let row = Columns::of(row);
            groups
                .entry(row.get(parent)?)
                .or_default()
                .push(read(&row)?);
        }
        Ok(Self(groups))
    }

    /// Those of one parent; none the second time.
    pub(super) fn take(&mut self, parent: i64) -> Vec<T> {
        self.0.remove(&parent).unwrap_or_default()
    }
}
