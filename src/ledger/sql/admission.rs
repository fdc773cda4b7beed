//! Which intents are recorded, and what becomes of the others.

use super::columns::Columns;
use super::connection::{Connection, query};
use super::known::Known;
use super::outcomes::outcome_of;
use super::work_leases::require;
use crate::ledger::{CaCertificateId, Intent, IntentId, IssuerState, Kind, LedgerError, Record};

/// An intent to insert, with its id.
#[derive(Clone, Copy)]
pub(in crate::ledger) struct IntentRow<'a> {
    pub(in crate::ledger) id: IntentId,
    pub(in crate::ledger) issuer: i64,
    pub(in crate::ledger) epoch: i64,
    pub(in crate::ledger) intent: &'a Intent,
}

pub(in crate::ledger) type Admitted<'a> = (Vec<Result<Record, LedgerError>>, Vec<IntentRow<'a>>);

/// The results so far, and the rows to insert, with ids from `next`.
pub(in crate::ledger) async fn admit_all<'a>(
    conn: &mut dyn Connection,
    known: &mut Known,
    intents: &'a [Intent],
    mut next: impl FnMut() -> Result<i64, LedgerError>,
) -> Result<Admitted<'a>, LedgerError> {
    let mut results = Vec::with_capacity(intents.len());
    let mut admitted = Vec::with_capacity(intents.len());
    for intent in intents {
        let epoch = known.epoch(conn, &intent.epoch).await?;
        let lost = match &intent.lease {
            Some(lease) => match require(conn, lease).await {
                Ok(()) => None,
                Err(lost @ LedgerError::LeaseLost { .. }) => Some(lost),
                Err(error) => return Err(error),
            },
            None => None,
        };
        let allowed = lost.map_or_else(|| admit(known, intent), Err);
        results.push(match (allowed, epoch) {
            (Ok(issuer), Some(epoch)) => {
                let id = IntentId::new(next()?);
                admitted.push(IntentRow {
                    id,
                    issuer,
                    epoch,
                    intent,
                });
                Ok(Record::New(id))
            }
            (refusal, epoch) => match existing_record(conn, intent).await? {
                Some(record) => Ok(record),
                None => Err(refusal
                    .err()
                    .filter(|_| epoch.is_some())
                    .unwrap_or_else(|| {
                        let epoch = intent.epoch.clone();
                        LedgerError::UnknownEpoch {
                            instance: epoch.instance,
                            boot: epoch.boot,
                        }
                    })),
            },
        });
    }
    Ok((results, admitted))
}

/// The issuer's row, if its state allows the intent.
fn admit(known: &Known, intent: &Intent) -> Result<i64, LedgerError> {
    let issuer = known
        .issuer(&intent.issuer)
        .ok_or_else(|| LedgerError::UnknownIssuer(intent.issuer.clone()))?;
    match (issuer.state, intent.kind) {
        (IssuerState::Active, _) | (IssuerState::Pending, Kind::Ca | Kind::Request) => {
            Ok(issuer.row)
        }
        (state, _) => Err(LedgerError::IssuerNotActive {
            issuer: intent.issuer.clone(),
            state,
        }),
    }
}

/// Replaces the results of intents that were not inserted; `present` are the ids that were, in order.
pub(in crate::ledger) async fn settle_conflicts(
    conn: &mut dyn Connection,
    results: &mut [Result<Record, LedgerError>],
    intents: &[Intent],
    present: &[i64],
) -> Result<(), LedgerError> {
    for (result, intent) in results.iter_mut().zip(intents) {
        let Ok(Record::New(id)) = result else {
            continue;
        };
        if present.binary_search(&id.get()).is_err() {
            *result = classify_conflict(conn, intent).await?;
        }
    }
    Ok(())
}

/// Why an intent was not inserted: its idempotency key or its serial is on record.
async fn classify_conflict(
    conn: &mut dyn Connection,
    intent: &Intent,
) -> Result<Result<Record, LedgerError>, LedgerError> {
    if let Some(record) = existing_record(conn, intent).await? {
        return Ok(Ok(record));
    }
    Ok(Err(match &intent.serial {
        Some(serial) => LedgerError::DuplicateSerial {
            issuer: intent.issuer.clone(),
            serial: *serial,
        },
        None => {
            LedgerError::Damaged("an intent conflicts with a row that does not exist".to_owned())
        }
    }))
}

/// The record with the same idempotency key.
async fn existing_record(
    conn: &mut dyn Connection,
    intent: &Intent,
) -> Result<Option<Record>, LedgerError> {
    let Some(key) = &intent.idempotency_key else {
        return Ok(None);
    };
    let row = query(
        "SELECT intent.id, tbs, issuer.key, algorithm, ca_certificate
         FROM intent JOIN issuer ON issuer.id = intent.issuer WHERE origin = $1",
    )
    .bind(key)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Columns::of(&row);
    let id = row.get("id").map(IntentId::new)?;
    let ca_certificate: Option<i64> = row.get("ca_certificate")?;
    Ok(Some(Record::Existing {
        id,
        tbs: row.get("tbs")?,
        issuer_id: row.parsed("key")?,
        algorithm: row.algorithm("algorithm")?,
        ca_certificate: ca_certificate.map(CaCertificateId::new),
        outcome: outcome_of(conn, id).await?,
    }))
}
