//! Requests to upstream CAs, as recorded.

use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use crate::ledger::{CaRequestId, CaRequestRecord, CaRequestState, KeyLocation, LedgerError};

/// How many requests of an authority a snapshot holds.
const NEWEST: i64 = 256;

/// The newest requests of an authority, oldest first.
pub(super) async fn ca_requests(
    conn: &mut dyn Connection,
    authority: i64,
) -> Result<Vec<CaRequestRecord>, LedgerError> {
    let rows = query(
        "SELECT ca_request.*, issuer.key AS issuer_key FROM ca_request
         LEFT JOIN issuer ON issuer.id = ca_request.issuer
         WHERE ca_request.authority = $1 ORDER BY ca_request.id DESC LIMIT $2",
    )
    .bind(authority)
    .bind(NEWEST)
    .fetch_all(&mut *conn)
    .await?;
    let mut requests = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        let row = Columns::of(row);
        let id: i64 = row.get("id")?;
        let state: CaRequestState = row.parsed("state")?;
        let certificates = match state {
            CaRequestState::Received => answer(conn, id).await?,
            _ => Vec::new(),
        };
        let issuer: Option<&str> = row.get("issuer_key")?;
        requests.push(CaRequestRecord {
            id: CaRequestId::new(id),
            upstream: row.get("upstream")?,
            state,
            location: KeyLocation {
                token: row.get("token")?,
                token_serial: row.get("token_serial")?,
                key_id: row.get("key_id")?,
                label: row.get("label")?,
            },
            kind: row.parsed("kind")?,
            path_len: row.get("path_len")?,
            issuer: match issuer {
                Some(_) => Some(row.parsed("issuer_key")?),
                None => None,
            },
            csr: row.get("csr")?,
            reference: row.get("reference")?,
            certificates,
            problem: row.get("problem")?,
            attempts: row.get("attempts")?,
            attempt_by: row.get("attempt_by")?,
            next_attempt_at: row.time("next_attempt_at")?,
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
            changed_at: row.time("changed_at")?,
            ended_at: row.optional_time("ended_at")?,
        });
    }
    Ok(requests)
}

async fn answer(conn: &mut dyn Connection, request: i64) -> Result<Vec<Vec<u8>>, LedgerError> {
    let ders = query_scalar("SELECT der FROM ca_answer WHERE request = $1 ORDER BY position");
    ders.bind(request).fetch_all(conn).await
}
