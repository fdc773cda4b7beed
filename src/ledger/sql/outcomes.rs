//! Outcomes as rows.

use super::columns::Columns;
use super::connection::{Connection, query};
use crate::ledger::{IntentId, LedgerError, Outcome, State};

/// Signature and reason.
pub(in crate::ledger) fn outcome_columns(outcome: &Outcome) -> (Option<&[u8]>, Option<&str>) {
    match outcome {
        Outcome::Issued { signature } => (Some(signature), None),
        Outcome::Failed { reason } | Outcome::Unknown { reason } => (None, Some(reason)),
    }
}

pub(super) async fn outcome_of(
    conn: &mut dyn Connection,
    intent: IntentId,
) -> Result<Option<Outcome>, LedgerError> {
    let row = query("SELECT state, signature, reason FROM conclusion WHERE intent = $1")
        .bind(intent.get())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Columns::of(&row);
    Ok(match row.state("state")? {
        State::Pending => None,
        State::Issued => Some(Outcome::Issued {
            signature: row.get("signature")?,
        }),
        State::Failed => Some(Outcome::Failed {
            reason: row.get("reason")?,
        }),
        State::Unknown => Some(Outcome::Unknown {
            reason: row.get("reason")?,
        }),
    })
}

/// The results of conclusions that were inserted unless one was on record, or the intent was not.
pub(in crate::ledger) async fn conclusions_of(
    conn: &mut dyn Connection,
    conclusions: &[(IntentId, Outcome)],
    all_inserted: bool,
    is_known: impl Fn(IntentId) -> bool,
) -> Result<Vec<Result<(), LedgerError>>, LedgerError> {
    let mut results = Vec::with_capacity(conclusions.len());
    for (intent, outcome) in conclusions {
        results.push(if !is_known(*intent) {
            Err(LedgerError::UnknownIntent(*intent))
        } else if all_inserted {
            Ok(())
        } else {
            match outcome_of(conn, *intent).await? {
                Some(on_record) if on_record == *outcome => Ok(()),
                Some(on_record) => Err(LedgerError::AlreadyConcluded {
                    intent: *intent,
                    state: on_record.state(),
                }),
                None => Err(LedgerError::UnknownIntent(*intent)),
            }
        });
    }
    Ok(results)
}
