//! The digest of a table.

use aws_lc_rs::digest::{Context, SHA256};

use crate::digest::hex;
use crate::ledger::sql::Value;

/// Of rows in their order; the same values have the same digest in every store.
pub(super) struct Digest {
    context: Context,
    rows: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            rows: 0,
        }
    }
}

impl Digest {
    pub(super) fn add(&mut self, row: &[Value<'_>]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Null => self.part(0, &[]),
                Value::Int(value) => self.part(1, &value.to_be_bytes()),
                Value::Text(value) => self.part(2, value.as_bytes()),
                Value::Bytes(value) => self.part(3, value),
            }
        }
    }

    /// With its length, so that no two rows look alike.
    fn part(&mut self, kind: u8, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.context.update(&[kind]);
        self.context.update(&length.to_be_bytes());
        self.context.update(bytes);
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows, and lower hex.
    pub(super) fn end(self) -> (u64, String) {
        (self.rows, hex(self.context.finish().as_ref()))
    }
}
