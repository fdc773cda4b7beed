//! Bundle versions: created when the published anchors change, then immutable.

use std::collections::BTreeMap;

use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::grouped::Grouped;
use crate::clock::UnixTime;
use crate::ledger::{BundleRecord, LedgerError};
use crate::x509::{TrustBundle, TrustDomain};

/// The anchors that an authority publishes at `now`, in order: its active ones, its pending ones,
/// then foreign ones that have not expired.
pub(super) async fn published(
    conn: &mut dyn Connection,
    authority: i64,
    now: UnixTime,
) -> Result<Vec<Vec<u8>>, LedgerError> {
    query_scalar(
        "SELECT der FROM anchor WHERE authority = $1 AND state <> 'retired'
            AND (origin <> 'foreign' OR expires_at IS NULL OR expires_at > $2)
         ORDER BY CASE WHEN origin = 'foreign' THEN 3 WHEN state = 'active' THEN 1 ELSE 2 END, id",
    )
    .bind(authority)
    .bind(now.secs())
    .fetch_all(conn)
    .await
}

/// Creates the next bundle version if the published anchors differ from the newest version's, and
/// returns its sequence number. It never creates an empty bundle, with which clients would trust
/// nobody.
pub(super) async fn publish(
    conn: &mut dyn Connection,
    authority: i64,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Option<u64>, LedgerError> {
    let anchors = published(conn, authority, now).await?;
    let newest = bundle(conn, authority, None).await?;
    let lowest = lowest_sequence(conn, trust_domain).await?;
    let unchanged = newest
        .as_ref()
        .is_some_and(|newest| newest.anchors == anchors && newest.sequence > lowest);
    if anchors.is_empty() || unchanged {
        return Ok(None);
    }
    let grows = newest
        .as_ref()
        .is_none_or(|newest| newest.anchors.len() < anchors.len());
    let sequence = newest.map_or(0, |newest| newest.sequence).max(lowest) + 1;
    let bundle = TrustBundle::new(trust_domain.clone(), sequence, anchors)
        .map_err(|error| LedgerError::Refused(format!("the trust bundle is invalid: {error}")))?;
    if grows {
        bundle
            .check_size()
            .map_err(|error| LedgerError::Refused(error.to_string()))?;
    }
    let row: i64 = query_scalar(
        "INSERT INTO bundle (authority, sequence, digest, created_at) VALUES ($1, $2, $3, $4)
         RETURNING id",
    )
    .bind(authority)
    .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
    .bind(bundle.digest().as_slice())
    .bind(now.secs())
    .fetch_one(&mut *conn)
    .await?;
    for (position, anchor) in (0_i64..).zip(bundle.anchors()) {
        query("INSERT INTO bundle_anchor (bundle, position, der) VALUES ($1, $2, $3)")
            .bind(row)
            .bind(position)
            .bind(anchor.der())
            .execute(&mut *conn)
            .await?;
    }
    Ok(Some(sequence))
}

/// The sequence that new versions are above, whatever this ledger holds.
async fn lowest_sequence(
    conn: &mut dyn Connection,
    trust_domain: &TrustDomain,
) -> Result<u64, LedgerError> {
    let row = query("SELECT sequence FROM bundle_lowest_sequence WHERE trust_domain = $1")
        .bind(trust_domain.as_str())
        .fetch_optional(conn)
        .await?;
    row.map_or(Ok(0), |row| Columns::of(&row).number("sequence"))
}

/// Keeps new versions above these sequences.
pub(super) async fn raise_lowest_sequences(
    conn: &mut dyn Connection,
    sequences: &BTreeMap<String, u64>,
) -> Result<(), LedgerError> {
    for (trust_domain, sequence) in sequences {
        query(
            "INSERT INTO bundle_lowest_sequence (trust_domain, sequence) VALUES ($1, $2)
             ON CONFLICT (trust_domain) DO UPDATE SET sequence = excluded.sequence
             WHERE bundle_lowest_sequence.sequence < excluded.sequence",
        )
        .bind(trust_domain)
        .bind(i64::try_from(*sequence).unwrap_or(i64::MAX))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A bundle version of an authority, without `sequence` the newest.
pub(in crate::ledger) async fn bundle(
    conn: &mut dyn Connection,
    authority: i64,
    sequence: Option<u64>,
) -> Result<Option<BundleRecord>, LedgerError> {
    let row = query(
        "SELECT id, sequence, digest, created_at FROM bundle
         WHERE authority = $1 AND sequence =
            coalesce($2, (SELECT max(sequence) FROM bundle WHERE authority = $1))",
    )
    .bind(authority)
    .bind(sequence.map(|sequence| i64::try_from(sequence).unwrap_or(i64::MAX)))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Columns::of(&row);
    let anchors = query_scalar("SELECT der FROM bundle_anchor WHERE bundle = $1 ORDER BY position")
        .bind(row.get::<i64>("id")?)
        .fetch_all(conn)
        .await?;
    Ok(Some(BundleRecord {
        sequence: row.number("sequence")?,
        digest: row.hash("digest")?,
        anchors,
        created_at: row.time("created_at")?,
    }))
}

/// The newest bundle version of each authority.
pub(super) async fn newest_bundles(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<BundleRecord>, LedgerError> {
    let rows = query(
        "SELECT * FROM bundle WHERE authority = coalesce($1, authority) AND sequence =
            (SELECT max(other.sequence) FROM bundle AS other WHERE other.authority = bundle.authority)",
    )
    .bind(only)
    .fetch_all(&mut *conn)
    .await?;
    let anchors = query(
        "SELECT bundle_anchor.bundle, bundle_anchor.der FROM bundle_anchor
         JOIN bundle ON bundle.id = bundle_anchor.bundle
         WHERE bundle.authority = coalesce($1, bundle.authority) AND bundle.sequence =
            (SELECT max(other.sequence) FROM bundle AS other WHERE other.authority = bundle.authority)
         ORDER BY bundle_anchor.position",
    )
    .bind(only)
    .fetch_all(conn)
    .await?;
    let mut anchors = Grouped::of(&anchors, "bundle", |row| row.get("der"))?;
    Grouped::of(&rows, "authority", |row| {
        Ok(BundleRecord {
            sequence: row.number("sequence")?,
            digest: row.hash("digest")?,
            anchors: anchors.take(row.get("id")?),
            created_at: row.time("created_at")?,
        })
    })
}
