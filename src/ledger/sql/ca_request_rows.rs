//! Requests to upstream CAs, as recorded.

use super::connection::{Connection, query};
use super::grouped::Grouped;
use crate::ledger::{CaRequestId, CaRequestRecord, CaRequestState, KeyLocation, LedgerError};

/// How many requests of an authority a snapshot holds.
const NEWEST: i64 = 256;

/// The newest requests of each authority, oldest first.
pub(super) async fn ca_requests(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<CaRequestRecord>, LedgerError> {
    let rows = query(
        "SELECT * FROM (
            SELECT ca_request.*, issuer.key AS issuer_key,
                row_number() OVER (PARTITION BY ca_request.authority ORDER BY ca_request.id DESC)
                    AS place
            FROM ca_request LEFT JOIN issuer ON issuer.id = ca_request.issuer
            WHERE ca_request.authority = coalesce($1, ca_request.authority)
         ) AS numbered WHERE place <= $2 ORDER BY id",
    )
    .bind(only)
    .bind(NEWEST)
    .fetch_all(&mut *conn)
    .await?;
    let mut answers = answers(conn, only).await?;
    Grouped::of(&rows, "authority", |row| {
        let id: i64 = row.get("id")?;
        let issuer: Option<&str> = row.get("issuer_key")?;
        Ok(CaRequestRecord {
            id: CaRequestId::new(id),
            upstream: row.get("upstream")?,
            state: row.parsed("state")?,
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
            certificates: answers.take(id),
            problem: row.get("problem")?,
            attempts: row.get("attempts")?,
            attempt_by: row.get("attempt_by")?,
            next_attempt_at: row.time("next_attempt_at")?,
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
            changed_at: row.time("changed_at")?,
            ended_at: row.optional_time("ended_at")?,
        })
    })
}

/// The certificates of the answers that wait, by request.
async fn answers(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<Vec<u8>>, LedgerError> {
    let rows = query(
        "SELECT ca_answer.request, ca_answer.der FROM ca_answer
         JOIN ca_request ON ca_request.id = ca_answer.request
         WHERE ca_request.state = $2
            AND ca_request.authority = coalesce($1, ca_request.authority)
         ORDER BY ca_answer.position",
    )
    .bind(only)
    .bind(CaRequestState::Received.as_str())
    .fetch_all(conn)
    .await?;
    Grouped::of(&rows, "request", |row| row.get("der"))
}
