//! What the writer caches between batches.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use crate::ledger::sql::{IntentRow, Known};

/// `intent.id >> SPAN_BITS` is the span.
pub(super) const SPAN_BITS: u32 = 12;

/// The bit of `span.issuers` for an issuer's row.
pub(super) const fn issuer_bit(row: i64) -> i64 {
    1 << row.rem_euclid(62)
}

/// A row of `span`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    recorded: (i64, i64),
    expires: (i64, i64),
    issuers: i64,
}

impl Span {
    const EMPTY: Self = Self {
        recorded: (i64::MAX, i64::MIN),
        expires: (i64::MAX, i64::MIN),
        issuers: 0,
    };

    fn with(self, other: Self) -> Self {
        let hull = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        Self {
            recorded: hull(self.recorded, other.recorded),
            expires: hull(self.expires, other.expires),
            issuers: self.issuers | other.issuers,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct WriterState {
    pub(super) known: Known,
    spans: HashMap<i64, Span>,
    written: Vec<(i64, Span)>,
    first_unsealed: Option<i64>,
}

impl WriterState {
    /// Widens the spans of the new rows where necessary.
    pub(super) async fn widen(
        &mut self,
        conn: &mut SqliteConnection,
        rows: &[IntentRow<'_>],
    ) -> Result<(), sqlx::Error> {
        self.written.clear();
        for row in rows {
            let at = row.id.get() >> SPAN_BITS;
            let recorded = row.intent.recorded_at.secs();
            let expires = row
                .intent
                .not_after
                .map_or(Span::EMPTY.expires, |time| (time.secs(), time.secs()));
            let new = Span {
                recorded: (recorded, recorded),
                expires,
                issuers: issuer_bit(row.issuer),
            };
            match self.written.last_mut() {
                Some((span, widened)) if *span == at => *widened = widened.with(new),
                _ => {
                    let known = self.spans.get(&at).copied().unwrap_or(Span::EMPTY);
                    self.written.push((at, known.with(new)));
                }
            }
        }
        let spans = &self.spans;
        self.written
            .retain(|(at, span)| spans.get(at) != Some(span));
        for (at, span) in &self.written {
            sqlx::query(
                "INSERT INTO span (span, recorded_min, recorded_max, expires_min, expires_max, issuers)
                 VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET
                    recorded_min = min(recorded_min, excluded.recorded_min),
                    recorded_max = max(recorded_max, excluded.recorded_max),
                    expires_min = min(expires_min, excluded.expires_min),
                    expires_max = max(expires_max, excluded.expires_max),
                    issuers = issuers | excluded.issuers",
            )
            .bind(at)
            .bind(span.recorded.0)
            .bind(span.recorded.1)
            .bind(span.expires.0)
            .bind(span.expires.1)
            .bind(span.issuers)
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    }

    /// Call it when the batch is durable.
    pub(super) fn committed(&mut self) {
        // Only the newest spans are written to.
        if self.spans.len() > 16 {
            self.spans.clear();
        }
        self.spans.extend(self.written.drain(..));
    }

    /// The newest span, if others may have become complete since the last sealing.
    pub(super) fn span_to_seal_before(&self) -> Option<i64> {
        let newest = self.spans.keys().max().copied()?;
        self.first_unsealed
            .is_none_or(|first| newest > first)
            .then_some(newest)
    }

    pub(super) fn set_first_unsealed(&mut self, span: i64) {
        self.first_unsealed = Some(span);
    }
}
