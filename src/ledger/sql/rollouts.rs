//! Rollouts of bundle versions.

use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::lookup::authority;
use super::work_leases::require;
use crate::clock::UnixTime;
use crate::ledger::{BundleRollout, LedgerError, WorkLease};

/// Stores a rollout and returns the time on record, which is that of the first call. The caller
/// holds the transaction.
pub(in crate::ledger) async fn record(
    conn: &mut dyn Connection,
    rollout: &BundleRollout,
    lease: Option<&WorkLease>,
) -> Result<UnixTime, LedgerError> {
    if let Some(lease) = lease {
        require(conn, lease).await?;
    }
    let authority = authority(conn, &rollout.trust_domain).await?;
    let bundle: Option<i64> = query_scalar(
        "SELECT id FROM bundle WHERE authority = $1 AND sequence = $2 AND digest = $3",
    )
    .bind(authority)
    .bind(i64::try_from(rollout.sequence).unwrap_or(i64::MAX))
    .bind(rollout.digest.as_slice())
    .fetch_optional(&mut *conn)
    .await?;
    let bundle = bundle.ok_or_else(|| {
        LedgerError::Refused(format!(
            "trust domain {} has no bundle {} with that digest",
            rollout.trust_domain, rollout.sequence
        ))
    })?;
    query(
        "INSERT INTO bundle_delivery (cluster, target, bundle, objects, delivered_at, delivered_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (cluster, target) DO UPDATE SET bundle = excluded.bundle,
            objects = excluded.objects, delivered_at = excluded.delivered_at,
            delivered_by = excluded.delivered_by
         WHERE bundle_delivery.bundle <> excluded.bundle",
    )
    .bind(&rollout.cluster)
    .bind(&rollout.target)
    .bind(bundle)
    .bind(i64::try_from(rollout.objects).unwrap_or(i64::MAX))
    .bind(rollout.at.secs())
    .bind(&rollout.by)
    .execute(&mut *conn)
    .await?;
    let row = query("SELECT delivered_at FROM bundle_delivery WHERE cluster = $1 AND target = $2")
        .bind(&rollout.cluster)
        .bind(&rollout.target)
        .fetch_one(conn)
        .await?;
    Columns::of(&row).time("delivered_at")
}

pub(in crate::ledger) async fn newest(
    conn: &mut dyn Connection,
) -> Result<Vec<BundleRollout>, LedgerError> {
    let rows = query(
        "SELECT cluster, target, trust_domain, sequence, digest, objects, delivered_at, delivered_by
         FROM bundle_delivery JOIN bundle ON bundle.id = bundle_delivery.bundle
            JOIN authority ON authority.id = bundle.authority
         ORDER BY cluster, target",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let row = Columns::of(row);
            Ok(BundleRollout {
                cluster: row.get("cluster")?,
                target: row.get("target")?,
                trust_domain: row.parsed("trust_domain")?,
                sequence: row.number("sequence")?,
                digest: row.hash("digest")?,
                objects: row.number("objects")?,
                at: row.time("delivered_at")?,
                by: row.get("delivered_by")?,
            })
        })
        .collect()
}
