//! Which bundle versions have come to their places.

use sqlx::SqliteConnection;

use super::codes::Columns;
use super::find::authority;
use crate::clock::UnixTime;
use crate::ledger::{Delivery, LedgerError};

/// Puts a delivery down; the caller holds the transaction. Said again, the first moment stays, and
/// is what is answered.
pub(super) async fn deliver(
    conn: &mut SqliteConnection,
    delivery: &Delivery,
) -> Result<UnixTime, LedgerError> {
    let authority = authority(conn, &delivery.trust_domain).await?;
    let bundle: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM bundle WHERE authority = ? AND sequence = ? AND digest = ?",
    )
    .bind(authority)
    .bind(i64::try_from(delivery.sequence).unwrap_or(i64::MAX))
    .bind(delivery.digest.as_slice())
    .fetch_optional(&mut *conn)
    .await?;
    let bundle = bundle.ok_or_else(|| {
        LedgerError::Refused(format!(
            "trust domain {} has no bundle {} with that digest",
            delivery.trust_domain, delivery.sequence
        ))
    })?;
    sqlx::query(
        "INSERT INTO bundle_delivery (cluster, target, bundle, objects, delivered_at, delivered_by)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (cluster, target) DO UPDATE SET bundle = excluded.bundle,
            objects = excluded.objects, delivered_at = excluded.delivered_at,
            delivered_by = excluded.delivered_by
         WHERE bundle_delivery.bundle <> excluded.bundle",
    )
    .bind(&delivery.cluster)
    .bind(&delivery.target)
    .bind(bundle)
    .bind(i64::try_from(delivery.objects).unwrap_or(i64::MAX))
    .bind(delivery.at.secs())
    .bind(&delivery.by)
    .execute(&mut *conn)
    .await?;
    let row =
        sqlx::query("SELECT delivered_at FROM bundle_delivery WHERE cluster = ? AND target = ?")
            .bind(&delivery.cluster)
            .bind(&delivery.target)
            .fetch_one(conn)
            .await?;
    Columns(&row).time("delivered_at")
}

/// The newest delivery of every target in every cluster.
pub(super) async fn deliveries(conn: &mut SqliteConnection) -> Result<Vec<Delivery>, LedgerError> {
    let rows = sqlx::query(
        "SELECT cluster, target, trust_domain, sequence, digest, objects, delivered_at, delivered_by
         FROM bundle_delivery JOIN bundle ON bundle.id = bundle_delivery.bundle
            JOIN authority ON authority.id = bundle.authority
         ORDER BY cluster, target",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let row = Columns(row);
            Ok(Delivery {
                cluster: row.get("cluster")?,
                target: row.get("target")?,
                trust_domain: row.word("trust_domain")?,
                sequence: row.number("sequence")?,
                digest: row.hash("digest")?,
                objects: row.number("objects")?,
                at: row.time("delivered_at")?,
                by: row.get("delivered_by")?,
            })
        })
        .collect()
}
