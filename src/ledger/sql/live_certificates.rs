//! Certificates that may still be valid, by who holds them: what a rotation waits for.

use super::columns::{Columns, kind_code};
use super::connection::{Connection, query_scalar};
use super::lookup::authority;
use crate::digest::sha256;
use crate::ledger::{Kind, LedgerError, LiveCertificates, LiveFilter, LiveHolder};

/// The caller holds a transaction.
pub(in crate::ledger) async fn live_certificates(
    conn: &mut dyn Connection,
    filter: &LiveFilter,
) -> Result<LiveCertificates, LedgerError> {
    let authority = authority(conn, &filter.trust_domain).await?;
    let rows = conn.live_rows(authority, filter).await?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut found = LiveCertificates::default();
    for row in &rows {
        let row = Columns::of(row);
        let certificates = row.number("certificates")?;
        found.total += certificates;
        let until = row.time("until")?;
        found.until = found.until.max(Some(until));
        if found.holders.len() < limit {
            found.holders.push(LiveHolder {
                is_ca: row.get::<i64>("kind")? == kind_code(Kind::Ca),
                subject: row.get("subject")?,
                cluster: row.get("cluster")?,
                pod: row.get("pod")?,
                spki_sha256: row.hash("spki_sha256")?,
                certificates,
                until,
                newest: row.time("newest")?,
            });
        }
    }
    Ok(found)
}

/// SHA-256 of the authority's own keys: what certifies them is held here, by nobody who would have to be
/// waited for.
pub(in crate::ledger) async fn own_keys(
    conn: &mut dyn Connection,
    authority: i64,
) -> Result<Vec<[u8; 32]>, LedgerError> {
    let keys: Vec<Vec<u8>> = query_scalar("SELECT public_key FROM issuer WHERE authority = $1")
        .bind(authority)
        .fetch_all(conn)
        .await?;
    Ok(keys.iter().map(|key| sha256(key)).collect())
}
