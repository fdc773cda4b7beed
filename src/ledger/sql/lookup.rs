//! Rows by the names that operators use.

use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use crate::ledger::{IssuerId, IssuerState, LedgerError, Role};
use crate::x509::TrustDomain;

pub(super) struct IssuerRow {
    pub(super) row: i64,
    pub(super) authority: i64,
    pub(super) trust_domain: TrustDomain,
    pub(super) role: Role,
    pub(super) state: IssuerState,
}

/// The row of a trust domain's authority.
pub(in crate::ledger) async fn authority(
    conn: &mut dyn Connection,
    trust_domain: &TrustDomain,
) -> Result<i64, LedgerError> {
    query_scalar("SELECT id FROM authority WHERE trust_domain = $1 AND removed_at IS NULL")
        .bind(trust_domain.as_str())
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| LedgerError::UnknownAuthority(trust_domain.clone()))
}

pub(super) async fn issuer(
    conn: &mut dyn Connection,
    id: &IssuerId,
) -> Result<IssuerRow, LedgerError> {
    let row = query(
        "SELECT issuer.id, authority, trust_domain, role, state
         FROM issuer JOIN authority ON authority.id = authority WHERE key = $1",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| LedgerError::UnknownIssuer(id.clone()))?;
    let row = Columns::of(&row);
    Ok(IssuerRow {
        row: row.get("id")?,
        authority: row.get("authority")?,
        trust_domain: row.parsed("trust_domain")?,
        role: row.parsed("role")?,
        state: row.parsed("state")?,
    })
}
