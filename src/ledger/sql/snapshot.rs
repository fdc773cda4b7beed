//! A consistent view of all records. The caller holds a transaction.

use super::bundles::bundle;
use super::ca_request_rows::ca_requests;
use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::planned_keys::planned_keys;
use crate::ledger::{
    AnchorRecord, AuthorityRecord, CaCertificateId, CaCertificateRecord, IssuerRecord, KeyLocation,
    LedgerError, Snapshot,
};

pub(in crate::ledger) async fn snapshot(
    conn: &mut dyn Connection,
) -> Result<Snapshot, LedgerError> {
    let row = query("SELECT value FROM revision")
        .fetch_one(&mut *conn)
        .await?;
    let revision = Columns::of(&row).number("value")?;
    let rows = query("SELECT * FROM authority ORDER BY id")
        .fetch_all(&mut *conn)
        .await?;
    let mut authorities = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = Columns::of(row);
        let id: i64 = row.get("id")?;
        authorities.push(AuthorityRecord {
            id,
            trust_domain: row.parsed("trust_domain")?,
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
            issuers: issuers(conn, id).await?,
            anchors: anchors(conn, id).await?,
            bundle: bundle(conn, id, None).await?,
            requests: ca_requests(conn, id).await?,
            planned_keys: planned_keys(conn, id).await?,
        });
    }
    Ok(Snapshot {
        revision,
        authorities,
    })
}

async fn issuers(
    conn: &mut dyn Connection,
    authority: i64,
) -> Result<Vec<IssuerRecord>, LedgerError> {
    let rows = query("SELECT * FROM issuer WHERE authority = $1 ORDER BY id")
        .bind(authority)
        .fetch_all(&mut *conn)
        .await?;
    let mut issuers = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = Columns::of(row);
        let id: i64 = row.get("id")?;
        issuers.push(IssuerRecord {
            id: row.parsed("key")?,
            role: row.parsed("role")?,
            state: row.parsed("state")?,
            public_key: row.get("public_key")?,
            locations: locations(conn, id).await?,
            path_len: row.get("path_len")?,
            certificates: certificates(conn, id).await?,
            created_at: row.time("created_at")?,
            created_by: row.get("created_by")?,
        });
    }
    Ok(issuers)
}

async fn locations(
    conn: &mut dyn Connection,
    issuer: i64,
) -> Result<Vec<KeyLocation>, LedgerError> {
    let rows = query("SELECT * FROM issuer_location WHERE issuer = $1 ORDER BY rowid")
        .bind(issuer)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row);
            Ok(KeyLocation {
                token: row.get("token")?,
                token_serial: row.get("token_serial")?,
                key_id: row.get("key_id")?,
                label: row.get("label")?,
            })
        })
        .collect()
}

async fn certificates(
    conn: &mut dyn Connection,
    issuer: i64,
) -> Result<Vec<CaCertificateRecord>, LedgerError> {
    let rows = query("SELECT * FROM ca_certificate WHERE issuer = $1 ORDER BY id")
        .bind(issuer)
        .fetch_all(&mut *conn)
        .await?;
    let mut certificates = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = Columns::of(row);
        let id: i64 = row.get("id")?;
        let path =
            query_scalar("SELECT der FROM ca_path WHERE ca_certificate = $1 ORDER BY position")
                .bind(id)
                .fetch_all(&mut *conn)
                .await?;
        certificates.push(CaCertificateRecord {
            id: CaCertificateId::new(id),
            der: row.get("der")?,
            sha256: row.hash("sha256")?,
            state: row.parsed("state")?,
            path,
            anchor: row.hash("anchor")?,
            not_before: row.time("not_before")?,
            not_after: row.time("not_after")?,
            added_at: row.time("added_at")?,
            added_by: row.get("added_by")?,
        });
    }
    Ok(certificates)
}

async fn anchors(
    conn: &mut dyn Connection,
    authority: i64,
) -> Result<Vec<AnchorRecord>, LedgerError> {
    let rows = query("SELECT * FROM anchor WHERE authority = $1 ORDER BY id")
        .bind(authority)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row);
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
        .collect()
}
