//! A batch in two round trips: one for the lock, the revision and the numbers of the intents, one for
//! the rows and the commit.

use futures_util::future::{join, join3};
use tokio_postgres::types::{ToSql, Type};

use super::errors::Cause;
use super::pool::WRITE_LOCK;
use super::session::{BEGIN, Session};
use crate::clock::UnixTime;
use crate::ledger::sql::{
    Batch, BatchResults, Columns, IntentRow, Known, admit_all, algorithm_code, conclusions_of,
    kind_code, method_code, outcome_columns, settle_conflicts, state_code,
};
use crate::ledger::{CaCertificateId, IntentId, LedgerError, Outcome, Record};
use crate::x509::Serial;

/// Why a batch has no results.
pub(super) enum Unwritten {
    /// Nothing was written.
    Failed(Cause, LedgerError),
    /// It is in the database, and its callers cannot be told how.
    Unanswered(LedgerError),
    /// The answer to COMMIT was lost: the batch is in the database, or will not be. The numbers are
    /// those of its intents.
    Unknown {
        records: Vec<Result<Record, LedgerError>>,
        numbers: Vec<i64>,
        error: LedgerError,
    },
}

impl From<(Cause, LedgerError)> for Unwritten {
    fn from((cause, error): (Cause, LedgerError)) -> Self {
        Self::Failed(cause, error)
    }
}

const NUMBERS: &str = "SELECT value, ARRAY(SELECT nextval('intent_id') FROM generate_series(1, $1))
        AS numbers FROM revision";

const INTENTS: &str = "INSERT INTO intent (id, kind, issuer, ca_certificate, serial, algorithm,
        not_before, not_after, subject, profile, spki_sha256, bundle_digest, caller_trust_domain,
        caller, method, method_detail, cluster, pod, node, token_authenticated_at, request_id, epoch,
        origin, recorded_at, tbs)
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
        $18, $19, $20, $21, $22, $23, $24, $25)
    ON CONFLICT DO NOTHING RETURNING id";

/// The join skips conclusions of intents that are not on record.
const CONCLUSIONS: &str = "INSERT INTO conclusion (intent, state, signature, reason, concluded_at)
    SELECT new.* FROM unnest($1, $2, $3, $4, $5) AS new (intent, state, signature, reason, at)
        JOIN intent ON intent.id = new.intent WHERE true
    ON CONFLICT DO NOTHING RETURNING conclusion.intent";

/// Durable when it returns results.
pub(super) async fn write(
    session: &mut Session,
    known: &mut Known,
    batch: &Batch,
    now: UnixTime,
) -> Result<BatchResults, Unwritten> {
    let (revision, numbers) = match begin(session, batch.intents.len()).await {
        Ok(begun) => begun,
        Err(error) => {
            session.roll_back().await;
            return Err(error.into());
        }
    };
    let admitted = async {
        known.refresh(session, revision).await?;
        let mut numbers = numbers.into_iter();
        let next = || {
            numbers
                .next()
                .ok_or_else(|| LedgerError::Damaged("a sequence returned no number".to_owned()))
        };
        admit_all(session, known, &batch.intents, next).await
    };
    let (mut records, rows) = match admitted.await {
        Ok(admitted) => admitted,
        Err(error) => {
            session.roll_back().await;
            return Err((Cause::Store, error).into());
        }
    };
    let numbers: Vec<i64> = rows.iter().map(|row| row.id.get()).collect();
    let (present, concluded) = match insert(session, &rows, &batch.conclusions, now).await {
        Ok(inserted) => inserted,
        Err((Some(cause), error)) => return Err((cause, error).into()),
        Err((None, error)) => {
            session.give_up();
            return Err(Unwritten::Unknown {
                records,
                numbers,
                error,
            });
        }
    };
    let all_concluded = concluded == batch.conclusions.len();
    settle(
        session,
        batch,
        &mut records,
        &numbers,
        &present,
        all_concluded,
    )
    .await
    .map(|conclusions| BatchResults {
        records,
        conclusions,
    })
    .map_err(Unwritten::Unanswered)
}

/// The results of what was committed: `present` are the numbers that were inserted.
pub(super) async fn settle(
    session: &mut Session,
    batch: &Batch,
    records: &mut [Result<Record, LedgerError>],
    numbers: &[i64],
    present: &[i64],
    all_concluded: bool,
) -> Result<Vec<Result<(), LedgerError>>, LedgerError> {
    if present.len() < numbers.len() {
        settle_conflicts(session, records, &batch.intents, present).await?;
    }
    conclusions_of(session, &batch.conclusions, all_concluded, |_| true).await
}

/// Takes the lock that batches share, and returns the revision and numbers for the intents.
async fn begin(session: &Session, intents: usize) -> Result<(u64, Vec<i64>), (Cause, LedgerError)> {
    let lock = format!("{BEGIN}; SELECT pg_advisory_xact_lock_shared({WRITE_LOCK})");
    let count = i64::try_from(intents).unwrap_or(i64::MAX);
    let count: (&(dyn ToSql + Sync), Type) = (&count, Type::INT8);
    // Sent together, answered in order: the second statement sees what was committed before the lock
    // was there.
    let (locked, read) = join(
        session.try_simple(&lock),
        session.try_query(NUMBERS, std::slice::from_ref(&count)),
    )
    .await;
    locked?;
    let rows = read?;
    let damaged = |error: LedgerError| (Cause::Store, error);
    let row = rows.first().ok_or_else(|| {
        damaged(LedgerError::Damaged(
            "the table revision is empty".to_owned(),
        ))
    })?;
    let revision = Columns(row).number("value").map_err(damaged)?;
    let numbers = row
        .try_get("numbers")
        .map_err(|error| damaged(LedgerError::Damaged(error.to_string())))?;
    Ok((revision, numbers))
}

/// Inserts the rows and commits; returns the numbers of the inserted intents, in order, and how many
/// conclusions were inserted. An error without a cause leaves open whether it was committed.
async fn insert(
    session: &Session,
    rows: &[IntentRow<'_>],
    conclusions: &[(IntentId, Outcome)],
    now: UnixTime,
) -> Result<(Vec<i64>, usize), (Option<Cause>, LedgerError)> {
    let intents = async {
        match rows {
            [] => Ok(Vec::new()),
            rows => insert_intents(session, rows).await,
        }
    };
    let outcomes = async {
        match conclusions {
            [] => Ok(0),
            conclusions => insert_conclusions(session, conclusions, now).await,
        }
    };
    let (intents, outcomes, committed) = join3(intents, outcomes, session.commit()).await;
    let refused = |(cause, error): (Cause, LedgerError)| (Some(cause), error);
    match committed {
        Ok(()) => Ok((intents.map_err(refused)?, outcomes.map_err(refused)?)),
        Err(error) => Err((None, error)),
    }
}

async fn insert_intents(
    session: &Session,
    rows: &[IntentRow<'_>],
) -> Result<Vec<i64>, (Cause, LedgerError)> {
    let ints = |value: &dyn Fn(&IntentRow<'_>) -> i64| rows.iter().map(value).collect::<Vec<_>>();
    let some_ints =
        |value: &dyn Fn(&IntentRow<'_>) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
    let secs = |time: Option<UnixTime>| time.map(UnixTime::secs);
    macro_rules! each {
        ($row:ident => $value:expr) => {
            rows.iter()
                .map(|row| {
                    let $row = row.intent;
                    $value
                })
                .collect::<Vec<_>>()
        };
    }
    let ids = ints(&|row| row.id.get());
    let kinds = ints(&|row| kind_code(row.intent.kind));
    let issuers = ints(&|row| row.issuer);
    let ca_certificates = some_ints(&|row| row.intent.ca_certificate.map(CaCertificateId::get));
    let serials = each!(intent => intent.serial.as_ref().map(Serial::as_bytes));
    let algorithms = ints(&|row| algorithm_code(row.intent.algorithm));
    let not_before = some_ints(&|row| secs(row.intent.not_before));
    let not_after = some_ints(&|row| secs(row.intent.not_after));
    let subjects = each!(intent => intent.subject.as_str());
    let profiles = each!(intent => intent.profile.as_str());
    let keys = each!(intent => intent.spki_sha256.as_slice());
    let bundles = each!(intent => intent.bundle_digest.as_ref().map(<[u8; 32]>::as_slice));
    let domains = each!(intent => intent.caller.trust_domain.as_str());
    let callers = each!(intent => intent.caller.identity.as_str());
    let methods = ints(&|row| method_code(row.intent.caller.method));
    let details = each!(intent => intent.caller.detail.as_str());
    let clusters = each!(intent => intent.caller.cluster.as_deref());
    let pods = each!(intent => intent.caller.pod.as_deref());
    let nodes = each!(intent => intent.caller.node.as_deref());
    let authenticated = some_ints(&|row| secs(row.intent.caller.token_authenticated_at));
    let requests = each!(intent => intent.request_id.as_str());
    let epochs = ints(&|row| row.epoch);
    let origins = each!(intent => intent.idempotency_key.as_deref());
    let recorded = ints(&|row| row.intent.recorded_at.secs());
    let tbs = each!(intent => intent.tbs.as_slice());
    let inserted = session
        .try_query(
            INTENTS,
            &[
                (&ids, Type::INT8_ARRAY),
                (&kinds, Type::INT8_ARRAY),
                (&issuers, Type::INT8_ARRAY),
                (&ca_certificates, Type::INT8_ARRAY),
                (&serials, Type::BYTEA_ARRAY),
                (&algorithms, Type::INT8_ARRAY),
                (&not_before, Type::INT8_ARRAY),
                (&not_after, Type::INT8_ARRAY),
                (&subjects, Type::TEXT_ARRAY),
                (&profiles, Type::TEXT_ARRAY),
                (&keys, Type::BYTEA_ARRAY),
                (&bundles, Type::BYTEA_ARRAY),
                (&domains, Type::TEXT_ARRAY),
                (&callers, Type::TEXT_ARRAY),
                (&methods, Type::INT8_ARRAY),
                (&details, Type::TEXT_ARRAY),
                (&clusters, Type::TEXT_ARRAY),
                (&pods, Type::TEXT_ARRAY),
                (&nodes, Type::TEXT_ARRAY),
                (&authenticated, Type::INT8_ARRAY),
                (&requests, Type::TEXT_ARRAY),
                (&epochs, Type::INT8_ARRAY),
                (&origins, Type::TEXT_ARRAY),
                (&recorded, Type::INT8_ARRAY),
                (&tbs, Type::BYTEA_ARRAY),
            ],
        )
        .await?;
    let mut present: Vec<i64> = inserted
        .iter()
        .filter_map(|row| row.try_get(0).ok())
        .collect();
    present.sort_unstable();
    Ok(present)
}

async fn insert_conclusions(
    session: &Session,
    conclusions: &[(IntentId, Outcome)],
    now: UnixTime,
) -> Result<usize, (Cause, LedgerError)> {
    let columns = conclusions
        .iter()
        .map(|(intent, outcome)| (intent, outcome, outcome_columns(outcome)));
    let intents: Vec<i64> = columns.clone().map(|(intent, ..)| intent.get()).collect();
    let states: Vec<i64> = columns
        .clone()
        .map(|(_, outcome, _)| state_code(outcome.state()))
        .collect();
    let signatures: Vec<_> = columns
        .clone()
        .map(|(.., (signature, _))| signature)
        .collect();
    let reasons: Vec<_> = columns.map(|(.., (_, reason))| reason).collect();
    let at = vec![now.secs(); conclusions.len()];
    let inserted = session
        .try_query(
            CONCLUSIONS,
            &[
                (&intents, Type::INT8_ARRAY),
                (&states, Type::INT8_ARRAY),
                (&signatures, Type::BYTEA_ARRAY),
                (&reasons, Type::TEXT_ARRAY),
                (&at, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(inserted.len())
}
