//! What the writer remembers between batches, so that it need not ask again with every one.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::bulk_insert::IntentRow;
use super::columns::Columns;
use crate::ledger::{Epoch, IssuerId, IssuerState, LedgerError};

/// `intent.id >> SPAN_BITS` is the span.
pub(super) const SPAN_BITS: u32 = 12;

/// The bit of `span.issuers` that stands for an issuer's row.
pub(super) const fn issuer_bit(row: i64) -> i64 {
    1 << row.rem_euclid(62)
}

/// An issuer as the writer judges by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedIssuer {
    pub(super) row: i64,
    pub(super) state: IssuerState,
}

/// What one row of `span` says.
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

/// Facts that were read or written before and still hold.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    revision: Option<i64>,
    issuers: HashMap<IssuerId, CachedIssuer>,
    epochs: HashMap<Epoch, i64>,
    spans: HashMap<i64, Span>,
    written: Vec<(i64, Span)>,
    unsealed: Option<i64>,
}

impl WriterState {
    /// Reads the issuers again when the records have changed. `revision` was read in the writer's
    /// own transaction, so no change can come between this and the commit.
    pub(super) async fn refresh(
        &mut self,
        conn: &mut SqliteConnection,
        revision: i64,
    ) -> Result<(), LedgerError> {
        if self.revision == Some(revision) {
            return Ok(());
        }
        self.revision = None;
        self.issuers.clear();
        let rows = sqlx::query("SELECT id, key, state FROM issuer")
            .fetch_all(conn)
            .await?;
        for row in &rows {
            let row = Columns(row);
            let issuer = CachedIssuer {
                row: row.get("id")?,
                state: row.parsed("state")?,
            };
            self.issuers.insert(row.parsed("key")?, issuer);
        }
        self.revision = Some(revision);
        Ok(())
    }

    pub(super) fn issuer(&self, id: &IssuerId) -> Option<CachedIssuer> {
        self.issuers.get(id).copied()
    }

    /// The row of an epoch; epochs are never removed.
    pub(super) async fn epoch(
        &mut self,
        conn: &mut SqliteConnection,
        epoch: &Epoch,
    ) -> Result<Option<i64>, LedgerError> {
        if let Some(row) = self.epochs.get(epoch) {
            return Ok(Some(*row));
        }
        let row = sqlx::query("SELECT id FROM epoch WHERE instance = ? AND boot = ?")
            .bind(&epoch.instance)
            .bind(i64::try_from(epoch.boot).unwrap_or(i64::MAX))
            .fetch_optional(conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row: i64 = row.try_get(0)?;
        self.epochs.insert(epoch.clone(), row);
        Ok(Some(row))
    }

    /// Widens the spans that the new rows lie in, where they are not wide enough already.
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

    /// The batch is durable, and what it wrote is known.
    pub(super) fn committed(&mut self) {
        // Only the newest spans are written to.
        if self.spans.len() > 16 {
            self.spans.clear();
        }
        self.spans.extend(self.written.drain(..));
    }

    /// The newest span, when others may have become complete since the last sealing.
    pub(super) fn wants_sealing(&self) -> Option<i64> {
        let newest = self.spans.keys().max().copied()?;
        self.unsealed
            .is_none_or(|unsealed| newest > unsealed)
            .then_some(newest)
    }

    /// Every span before this one is sealed.
    pub(super) fn sealed_before(&mut self, span: i64) {
        self.unsealed = Some(span);
    }
}
