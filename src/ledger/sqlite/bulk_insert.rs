//! Inserts of many rows by one statement. There are few sizes, so all statements stay prepared, and
//! one or two of them insert a batch.

use std::fmt::Write;
use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use crate::clock::UnixTime;
use crate::ledger::sql::{
    IntentRow, algorithm_code, kind_code, method_code, outcome_columns, state_code,
};
use crate::ledger::{CaCertificateId, IntentId, Outcome};
use crate::x509::Serial;

pub(super) struct ConclusionRow<'a> {
    pub(super) intent: IntentId,
    pub(super) outcome: &'a Outcome,
    pub(super) at: UnixTime,
}

/// A row of one table.
pub(super) trait InsertRow {
    const COLUMNS: usize;
    fn bind(&self, values: &mut SqliteArguments) -> Result<(), BoxDynError>;
}

impl InsertRow for IntentRow<'_> {
    const COLUMNS: usize = 25;

    fn bind(&self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        let intent = self.intent;
        let caller = &intent.caller;
        let secs = |time: Option<UnixTime>| time.map(UnixTime::secs);
        values.add(self.id.get())?;
        values.add(kind_code(intent.kind))?;
        values.add(self.issuer)?;
        values.add(intent.ca_certificate.map(CaCertificateId::get))?;
        values.add(intent.serial.as_ref().map(Serial::as_bytes))?;
        values.add(algorithm_code(intent.algorithm))?;
        values.add(secs(intent.not_before))?;
        values.add(secs(intent.not_after))?;
        values.add(intent.subject.as_str())?;
        values.add(intent.profile.as_str())?;
        values.add(intent.spki_sha256.as_slice())?;
        values.add(intent.bundle_digest.as_ref().map(<[u8; 32]>::as_slice))?;
        values.add(caller.trust_domain.as_str())?;
        values.add(caller.identity.as_str())?;
        values.add(method_code(caller.method))?;
        values.add(caller.detail.as_str())?;
        values.add(caller.cluster.as_deref())?;
        values.add(caller.pod.as_deref())?;
        values.add(caller.node.as_deref())?;
        values.add(secs(caller.token_authenticated_at))?;
        values.add(intent.request_id.as_str())?;
        values.add(self.epoch)?;
        values.add(intent.idempotency_key.as_deref())?;
        values.add(intent.recorded_at.secs())?;
        values.add(intent.tbs.as_slice())
    }
}

impl InsertRow for ConclusionRow<'_> {
    const COLUMNS: usize = 5;

    fn bind(&self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        let (signature, reason) = outcome_columns(self.outcome);
        values.add(self.intent.get())?;
        values.add(state_code(self.outcome.state()))?;
        values.add(signature)?;
        values.add(reason)?;
        values.add(self.at.secs())
    }
}

/// The statements that insert into one table, largest first.
#[derive(Debug)]
pub(super) struct BulkInsert(Vec<(usize, Arc<str>)>);

/// Rows per statement. Each statement is a round trip to the connection's thread.
fn sizes() -> impl Iterator<Item = usize> {
    [64].into_iter().chain((1..=32).rev())
}

impl BulkInsert {
    pub(super) fn intents() -> Self {
        Self::new(
            "INSERT INTO intent (id, kind, issuer, ca_certificate, serial, algorithm, not_before, \
             not_after, subject, profile, spki_sha256, bundle_digest, caller_trust_domain, caller, \
             method, method_detail, cluster, pod, node, token_authenticated_at, request_id, epoch, \
             origin, recorded_at, tbs) VALUES ",
            IntentRow::COLUMNS,
        )
    }

    pub(super) fn conclusions() -> Self {
        Self::new(
            "INSERT INTO conclusion (intent, state, signature, reason, concluded_at) VALUES ",
            ConclusionRow::COLUMNS,
        )
    }

    /// A row that violates a unique constraint is skipped; the rest of the batch is inserted.
    fn new(head: &str, columns: usize) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        Self(
            sizes()
                .map(|size| {
                    let mut sql = head.to_owned();
                    for n in 0..size {
                        // Writing to a String cannot fail.
                        let _ = write!(sql, "{}{row}", if n == 0 { "" } else { "," });
                    }
                    sql.push_str(" ON CONFLICT DO NOTHING");
                    (size, sql.into())
                })
                .collect(),
        )
    }

    /// Returns how many rows were inserted.
    pub(super) async fn run<R: InsertRow>(
        &self,
        conn: &mut SqliteConnection,
        mut rows: &[R],
    ) -> Result<usize, sqlx::Error> {
        let mut inserted = 0;
        for (size, sql) in &self.0 {
            while let Some((now, later)) = rows.split_at_checked(*size) {
                let mut values = SqliteArguments::default();
                values.reserve(size * R::COLUMNS, 0);
                for row in now {
                    row.bind(&mut values).map_err(sqlx::Error::Encode)?;
                }
                let done = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), values)
                    .execute(&mut *conn)
                    .await?;
                inserted += usize::try_from(done.rows_affected()).unwrap_or_default();
                rows = later;
            }
        }
        Ok(inserted)
    }
}
