//! A consistent view of all records, or of one authority's. The caller holds a transaction.
//!
//! There is one statement for each table, however many authorities there are. `coalesce($1, authority)`
//! is every authority when the value is NULL.

use super::bundles::newest_bundles;
use super::ca_request_rows::ca_requests;
use super::change_context::revision;
use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::grouped::Grouped;
use super::planned_keys::planned_keys;
use crate::ledger::{
    AnchorRecord, AuthorityRecord, CaCertificateId, CaCertificateRecord, IssuerRecord, KeyLocation,
    LedgerError, Snapshot,
};
use crate::x509::TrustDomain;

pub(in crate::ledger) async fn snapshot(
    conn: &mut dyn Connection,
) -> Result<Snapshot, LedgerError> {
    let revision = revision(conn).await?;
    let all = authorities(conn, None).await?.into_iter();
    let (removed, authorities): (Vec<_>, Vec<_>) = all.partition(|(is_removed, _)| *is_removed);
    let records = |rows: Vec<(bool, AuthorityRecord)>| rows.into_iter().map(|(_, record)| record);
    Ok(Snapshot {
        revision,
        authorities: records(authorities).collect(),
        removed: records(removed).collect(),
    })
}

/// The records of one trust domain's authority.
pub(in crate::ledger) async fn authority_record(
    conn: &mut dyn Connection,
    trust_domain: &TrustDomain,
) -> Result<Option<AuthorityRecord>, LedgerError> {
    let row: Option<i64> =
        query_scalar("SELECT id FROM authority WHERE trust_domain = $1 AND removed_at IS NULL")
            .bind(trust_domain.as_str())
            .fetch_optional(&mut *conn)
            .await?;
    let Some(id) = row else { return Ok(None) };
    let found = authorities(conn, Some(id)).await?.pop();
    Ok(found.map(|(_, record)| record))
}

/// With whether each was removed.
async fn authorities(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Vec<(bool, AuthorityRecord)>, LedgerError> {
    let rows = query("SELECT * FROM authority WHERE id = coalesce($1, id) ORDER BY id")
        .bind(only)
        .fetch_all(&mut *conn)
        .await?;
    let mut issuers = issuers(conn, only).await?;
    let mut anchors = anchors(conn, only).await?;
    let mut bundles = newest_bundles(conn, only).await?;
    let mut requests = ca_requests(conn, only).await?;
    let mut planned_keys = planned_keys(conn, only).await?;
    let authorities = rows.iter().map(|row| {
        let row = Columns::of(row);
        let id: i64 = row.get("id")?;
        let removed_at = row.optional_time("removed_at")?;
        let record = AuthorityRecord {
            id,
            trust_domain: row.parsed("trust_domain")?,
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
            issuers: issuers.take(id),
            anchors: anchors.take(id),
            bundle: bundles.take(id).pop(),
            requests: requests.take(id),
            planned_keys: planned_keys.take(id),
        };
        Ok((removed_at.is_some(), record))
    });
    authorities.collect()
}

async fn issuers(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<IssuerRecord>, LedgerError> {
    let rows = query("SELECT * FROM issuer WHERE authority = coalesce($1, authority) ORDER BY id")
        .bind(only)
        .fetch_all(&mut *conn)
        .await?;
    let mut locations = locations(conn, only).await?;
    let mut certificates = certificates(conn, only).await?;
    Grouped::of(&rows, "authority", |row| {
        let id: i64 = row.get("id")?;
        Ok(IssuerRecord {
            id: row.parsed("key")?,
            role: row.parsed("role")?,
            state: row.parsed("state")?,
            public_key: row.get("public_key")?,
            locations: locations.take(id),
            path_len: row.get("path_len")?,
            certificates: certificates.take(id),
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
        })
    })
}

async fn locations(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<KeyLocation>, LedgerError> {
    let rows = query(
        "SELECT issuer_location.* FROM issuer_location
         JOIN issuer ON issuer.id = issuer_location.issuer
         WHERE issuer.authority = coalesce($1, issuer.authority) ORDER BY issuer_location.rowid",
    )
    .bind(only)
    .fetch_all(conn)
    .await?;
    Grouped::of(&rows, "issuer", |row| {
        Ok(KeyLocation {
            token: row.get("token")?,
            token_serial: row.get("token_serial")?,
            key_id: row.get("key_id")?,
            label: row.get("label")?,
        })
    })
}

async fn certificates(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<CaCertificateRecord>, LedgerError> {
    let rows = query(
        "SELECT ca_certificate.* FROM ca_certificate
         JOIN issuer ON issuer.id = ca_certificate.issuer
         WHERE issuer.authority = coalesce($1, issuer.authority) ORDER BY ca_certificate.id",
    )
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let path = query(
        "SELECT ca_path.ca_certificate, ca_path.der FROM ca_path
         JOIN ca_certificate ON ca_certificate.id = ca_path.ca_certificate
         JOIN issuer ON issuer.id = ca_certificate.issuer
         WHERE issuer.authority = coalesce($1, issuer.authority) ORDER BY ca_path.position",
    )
    .bind(only)
    .fetch_all(conn)
    .await?;
    let mut paths = Grouped::of(&path, "ca_certificate", |row| row.get("der"))?;
    Grouped::of(&rows, "issuer", |row| {
        let id: i64 = row.get("id")?;
        Ok(CaCertificateRecord {
            id: CaCertificateId::new(id),
            der: row.get("der")?,
            sha256: row.hash("sha256")?,
            state: row.parsed("state")?,
            path: paths.take(id),
            anchor: row.hash("anchor")?,
            not_before: row.time("not_before")?,
            not_after: row.time("not_after")?,
            added_at: row.time("added_at")?,
            added_by: row.get("added_by")?,
        })
    })
}

async fn anchors(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<AnchorRecord>, LedgerError> {
    let rows = query("SELECT * FROM anchor WHERE authority = coalesce($1, authority) ORDER BY id")
        .bind(only)
        .fetch_all(conn)
        .await?;
    Grouped::of(&rows, "authority", |row| {
        Ok(AnchorRecord {
            sha256: row.hash("sha256")?,
            der: row.get("der")?,
            origin: row.parsed("origin")?,
            source: row.get("source")?,
            state: row.parsed("state")?,
            expires_at: row.optional_time("expires_at")?,
            added_at: row.time("added_at")?,
            added_by: row.get("added_by")?,
            retired_at: row.optional_time("retired_at")?,
        })
    })
}
