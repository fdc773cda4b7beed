//! Rotations: what is on record of them, and their moves.

use super::change_context::{ChangeContext, ChangeResult};
use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::live_certificates::live_certificates;
use super::lookup::{authority, issuer};
use crate::digest::hex;
use crate::ledger::{
    IssuerId, LedgerError, Live, LiveFilter, RotationChange, RotationId, RotationParts,
    RotationPhase, RotationRecord, RotationStep,
};
use crate::x509::{KeyKind, TrustDomain};

/// How many rotations are returned.
const NEWEST: i64 = 256;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT rotation.*, trust_domain, old.key AS old_key, new.key AS new_key
             FROM rotation JOIN authority ON authority.id = rotation.authority
             LEFT JOIN issuer old ON old.id = old_issuer
             LEFT JOIN issuer new ON new.id = new_issuer ",
            $rest
        )
    };
}

/// The newest rotations of all authorities, oldest first.
pub(in crate::ledger) async fn rotations(
    conn: &mut dyn Connection,
) -> Result<Vec<RotationRecord>, LedgerError> {
    let rows = query(select!("ORDER BY rotation.id DESC LIMIT $1"))
        .bind(NEWEST)
        .fetch_all(&mut *conn)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        found.push(record(conn, &Columns::of(row)).await?);
    }
    Ok(found)
}

async fn rotation(
    conn: &mut dyn Connection,
    id: RotationId,
) -> Result<RotationRecord, LedgerError> {
    let row = query(select!("WHERE rotation.id = $1"))
        .bind(id.get())
        .fetch_optional(&mut *conn)
        .await?
        .ok_or_else(|| LedgerError::Refused(format!("rotation {id} is not on record")))?;
    record(conn, &Columns::of(&row)).await
}

async fn record(
    conn: &mut dyn Connection,
    row: &Columns<'_>,
) -> Result<RotationRecord, LedgerError> {
    let id: i64 = row.get("id")?;
    let steps = query("SELECT * FROM rotation_step WHERE rotation = $1 ORDER BY id")
        .bind(id)
        .fetch_all(conn)
        .await?;
    let steps = steps.iter().map(|row| {
        let row = Columns::of(row);
        Ok(RotationStep {
            phase: row.parsed("phase")?,
            backwards: row.get("backwards")?,
            at: row.time("at")?,
            by: row.get("by")?,
            forced: row.get("forced")?,
        })
    });
    Ok(RotationRecord {
        id: RotationId::new(id),
        trust_domain: row.parsed("trust_domain")?,
        kind: row.parsed("kind")?,
        phase: row.parsed("phase")?,
        backwards: row.get("backwards")?,
        parts: RotationParts {
            old_issuer: optional_key(row, "old_key")?,
            old_anchor: row.optional_hash("old_anchor")?,
            new_issuer: optional_key(row, "new_key")?,
            new_anchor: row.optional_hash("new_anchor")?,
        },
        key: row.parsed("key_kind")?,
        token: row.get("token")?,
        started_at: row.time("started_at")?,
        started_by: row.get("started_by")?,
        changed_at: row.time("changed_at")?,
        ended_at: row.optional_time("ended_at")?,
        steps: steps.collect::<Result<_, LedgerError>>()?,
    })
}

fn optional_key(row: &Columns<'_>, column: &str) -> Result<Option<IssuerId>, LedgerError> {
    match row.get::<Option<&str>>(column)? {
        Some(_) => row.parsed(column).map(Some),
        None => Ok(None),
    }
}

impl ChangeContext<'_> {
    pub(super) async fn change_rotation(
        &mut self,
        change: RotationChange,
    ) -> Result<ChangeResult, LedgerError> {
        match change {
            RotationChange::Begin {
                trust_domain,
                kind,
                phase,
                parts,
                key,
                token,
            } => {
                let what = (kind.as_str(), phase, parts);
                self.begin_rotation(&trust_domain, what, key, &token).await
            }
            RotationChange::Prepared {
                rotation: id,
                new_issuer,
                new_anchor,
            } => {
                let found = rotation(self.conn, id).await?;
                is_in(&found, RotationPhase::Prepare)?;
                let row = issuer(self.conn, &new_issuer).await?.row;
                query("UPDATE rotation SET new_issuer = $1, new_anchor = $2 WHERE id = $3")
                    .bind(row)
                    .bind(new_anchor.as_slice())
                    .bind(id.get())
                    .execute(&mut *self.conn)
                    .await?;
                let detail = format!("issuer {new_issuer}, root sha256:{}", hex(&new_anchor));
                Ok(action("rotation-prepared", &found, detail))
            }
            RotationChange::Move {
                rotation: id,
                from,
                to,
                backwards,
                forced,
            } => {
                let found = rotation(self.conn, id).await?;
                is_in(&found, from)?;
                if to == RotationPhase::Retire && forced.is_none() {
                    self.check_nothing_is_alive(&found, backwards).await?;
                }
                query(
                    "UPDATE rotation SET phase = $1, backwards = $2, changed_at = $3, ended_at = $4
                     WHERE id = $5",
                )
                .bind(to.as_str())
                .bind(backwards)
                .bind(self.now.secs())
                .bind((!to.is_open()).then_some(self.now.secs()))
                .bind(id.get())
                .execute(&mut *self.conn)
                .await?;
                self.add_step(id.get(), to, backwards, forced.as_deref())
                    .await?;
                let way = if backwards { ", backwards" } else { "" };
                let detail = match forced {
                    Some(reason) => format!("from {from} to {to}{way}, forced: {reason}"),
                    None => format!("from {from} to {to}{way}"),
                };
                Ok(action("rotation-move", &found, detail))
            }
        }
    }

    async fn begin_rotation(
        &mut self,
        trust_domain: &TrustDomain,
        (kind, phase, parts): (&'static str, RotationPhase, RotationParts),
        key: KeyKind,
        token: &str,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let old = match &parts.old_issuer {
            Some(id) => Some(issuer(self.conn, id).await?.row),
            None => None,
        };
        let inserted = query_scalar(
            "INSERT INTO rotation (authority, kind, phase, old_issuer, old_anchor, key_kind, token,
                started_at, started_by, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(authority)
        .bind(kind)
        .bind(phase.as_str())
        .bind(old)
        .bind(parts.old_anchor.map(|sha256| sha256.to_vec()))
        .bind(key.slug())
        .bind(token)
        .bind(self.now.secs())
        .bind(&self.by.name)
        .fetch_optional(&mut *self.conn)
        .await?;
        let id: i64 = inserted.ok_or_else(|| LedgerError::RotationOpen(trust_domain.clone()))?;
        self.add_step(id, phase, false, None).await?;
        let detail = format!("{kind}, {} in token {token}", key.slug());
        Ok(ChangeResult {
            action: Some(("rotation-begin", format!("{trust_domain} {id}"), detail)),
            ..ChangeResult::default()
        })
    }

    async fn add_step(
        &mut self,
        rotation: i64,
        phase: RotationPhase,
        backwards: bool,
        forced: Option<&str>,
    ) -> Result<(), LedgerError> {
        query(
            "INSERT INTO rotation_step (rotation, phase, backwards, at, by, forced)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(rotation)
        .bind(phase.as_str())
        .bind(backwards)
        .bind(self.now.secs())
        .bind(&self.by.name)
        .bind(forced)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// In the transaction that retires the issuer, so that no certificate is signed in between.
    async fn check_nothing_is_alive(
        &mut self,
        rotation: &RotationRecord,
        backwards: bool,
    ) -> Result<(), LedgerError> {
        let filter = LiveFilter {
            trust_domain: rotation.trust_domain.clone(),
            now: self.now,
            which: Live::below(&rotation.parts, backwards),
            limit: 1,
        };
        let live = live_certificates(self.conn, &filter).await?;
        match live.holders.first() {
            None => Ok(()),
            Some(first) => Err(LedgerError::Refused(format!(
                "{} certificates below what is to be retired are alive, one of {} until {}",
                live.total, first.subject, first.until
            ))),
        }
    }
}

fn is_in(found: &RotationRecord, phase: RotationPhase) -> Result<(), LedgerError> {
    match found.phase == phase {
        true => Ok(()),
        false => Err(LedgerError::RotationMoved {
            rotation: found.id,
            phase: found.phase,
        }),
    }
}

fn action(action: &'static str, rotation: &RotationRecord, detail: String) -> ChangeResult {
    let target = format!("{} {}", rotation.trust_domain, rotation.id);
    ChangeResult {
        action: Some((action, target, detail)),
        ..ChangeResult::default()
    }
}
