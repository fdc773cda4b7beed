//! Reports of servers and watchers, and clusters that are gone.

use super::change_context::{ChangeContext, ChangeResult};
use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::lookup::authority;
use crate::clock::UnixTime;
use crate::ledger::{
    COMMAND, GoneCluster, LedgerError, LiveServer, PresenceChange, ServerReport, WatcherReport,
};

/// Replaces a server's report. The caller holds the transaction.
pub(in crate::ledger) async fn report_server(
    conn: &mut dyn Connection,
    report: &ServerReport,
) -> Result<(), LedgerError> {
    let authority = authority(conn, &report.trust_domain).await?;
    let boot: Option<i64> = query_scalar("SELECT boot FROM instance WHERE name = $1")
        .bind(&report.instance)
        .fetch_optional(&mut *conn)
        .await?;
    let boot = boot.ok_or_else(|| LedgerError::UnknownEpoch {
        instance: report.instance.clone(),
        boot: 0,
    })?;
    query(
        "INSERT INTO server_report
            (instance, authority, boot, sequence, digest, issuer, details, reported_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (instance, authority) DO UPDATE SET boot = excluded.boot,
            sequence = excluded.sequence, digest = excluded.digest, issuer = excluded.issuer,
            details = excluded.details, reported_at = excluded.reported_at",
    )
    .bind(&report.instance)
    .bind(authority)
    .bind(boot)
    .bind(i64::try_from(report.sequence).unwrap_or(i64::MAX))
    .bind(report.digest.as_slice())
    .bind(report.issuer.as_ref())
    .bind(&report.details)
    .bind(report.at.secs())
    .execute(conn)
    .await?;
    Ok(())
}

pub(in crate::ledger) async fn live_servers(
    conn: &mut dyn Connection,
    now: UnixTime,
) -> Result<Vec<LiveServer>, LedgerError> {
    let instances =
        query("SELECT name, lease_until FROM instance WHERE lease_until > $1 ORDER BY name")
            .bind(now.secs())
            .fetch_all(&mut *conn)
            .await?;
    let mut servers = Vec::new();
    for row in &instances {
        let row = Columns::of(row);
        let instance: String = row.get("name")?;
        if !instance.contains(COMMAND) {
            servers.push(LiveServer {
                instance,
                until: row.time("lease_until")?,
                reports: Vec::new(),
            });
        }
    }
    let reports = query(
        "SELECT server_report.instance, trust_domain, sequence, digest, issuer, details, reported_at
         FROM server_report JOIN authority ON authority.id = authority
            JOIN instance ON instance.name = server_report.instance
                AND instance.boot = server_report.boot
         WHERE lease_until > $1 ORDER BY server_report.instance, trust_domain",
    )
    .bind(now.secs())
    .fetch_all(conn)
    .await?;
    for row in &reports {
        let row = Columns::of(row);
        let report = ServerReport {
            instance: row.get("instance")?,
            trust_domain: row.parsed("trust_domain")?,
            sequence: row.number("sequence")?,
            digest: row.hash("digest")?,
            issuer: row.get("issuer")?,
            details: row.get("details")?,
            at: row.time("reported_at")?,
        };
        let mut all = servers.iter_mut();
        if let Some(server) = all.find(|each| each.instance == report.instance) {
            server.reports.push(report);
        }
    }
    Ok(servers)
}

/// Replaces what watchers have said. The caller holds the transaction.
pub(in crate::ledger) async fn report_watchers(
    conn: &mut dyn Connection,
    reports: &[WatcherReport],
) -> Result<(), LedgerError> {
    for report in reports {
        let authority = authority(conn, &report.trust_domain).await?;
        query(
            "INSERT INTO bundle_watcher
                (authority, cluster, name, sequence, digest, details, reported_at, instance)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (authority, cluster, name) DO UPDATE SET sequence = excluded.sequence,
                digest = excluded.digest, details = excluded.details,
                reported_at = excluded.reported_at, instance = excluded.instance",
        )
        .bind(authority)
        .bind(&report.cluster)
        .bind(&report.name)
        .bind(i64::try_from(report.sequence).unwrap_or(i64::MAX))
        .bind(report.digest.as_slice())
        .bind(&report.details)
        .bind(report.at.secs())
        .bind(&report.instance)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(in crate::ledger) async fn watchers(
    conn: &mut dyn Connection,
) -> Result<Vec<WatcherReport>, LedgerError> {
    let rows = query(
        "SELECT trust_domain, cluster, name, sequence, digest, details, reported_at, instance
         FROM bundle_watcher JOIN authority ON authority.id = authority
         ORDER BY trust_domain, cluster, name",
    )
    .fetch_all(conn)
    .await?;
    let reports = rows.iter().map(|row| {
        let row = Columns::of(row);
        Ok(WatcherReport {
            trust_domain: row.parsed("trust_domain")?,
            cluster: row.get("cluster")?,
            name: row.get("name")?,
            sequence: row.number("sequence")?,
            digest: row.hash("digest")?,
            details: row.get("details")?,
            at: row.time("reported_at")?,
            instance: row.get("instance")?,
        })
    });
    reports.collect()
}

pub(in crate::ledger) async fn gone_clusters(
    conn: &mut dyn Connection,
) -> Result<Vec<GoneCluster>, LedgerError> {
    let rows = query("SELECT * FROM gone_cluster ORDER BY cluster")
        .fetch_all(conn)
        .await?;
    let gone = rows.iter().map(|row| {
        let row = Columns::of(row);
        Ok(GoneCluster {
            cluster: row.get("cluster")?,
            reason: row.get("reason")?,
            at: row.time("declared_at")?,
            by: row.get("declared_by")?,
            returned_at: row.optional_time("returned_at")?,
        })
    });
    gone.collect()
}

impl ChangeContext<'_> {
    pub(super) async fn change_presence(
        &mut self,
        change: PresenceChange,
    ) -> Result<ChangeResult, LedgerError> {
        match change {
            PresenceChange::Gone { cluster, reason } => {
                query(
                    "INSERT INTO gone_cluster (cluster, reason, declared_at, declared_by)
                     VALUES ($1, $2, $3, $4)
                     ON CONFLICT (cluster) DO UPDATE SET reason = excluded.reason,
                        declared_at = excluded.declared_at, declared_by = excluded.declared_by,
                        returned_at = NULL",
                )
                .bind(&cluster)
                .bind(&reason)
                .bind(self.now.secs())
                .bind(&self.by.name)
                .execute(&mut *self.conn)
                .await?;
                query("DELETE FROM bundle_watcher WHERE cluster = $1")
                    .bind(&cluster)
                    .execute(&mut *self.conn)
                    .await?;
                Ok(ChangeResult::done("cluster-gone", cluster, reason))
            }
            PresenceChange::Returned { cluster, how } => {
                let updated = query(
                    "UPDATE gone_cluster SET returned_at = $1
                     WHERE cluster = $2 AND returned_at IS NULL",
                )
                .bind(self.now.secs())
                .bind(&cluster)
                .execute(&mut *self.conn)
                .await?;
                Ok(match updated {
                    0 => ChangeResult::default(),
                    _ => ChangeResult::done("cluster-returned", cluster, how),
                })
            }
            PresenceChange::ForgetWatcher {
                trust_domain,
                cluster,
                name,
                reason,
            } => {
                let authority = authority(&mut *self.conn, &trust_domain).await?;
                let deleted = query(
                    "DELETE FROM bundle_watcher
                     WHERE authority = $1 AND cluster = $2 AND name = $3",
                )
                .bind(authority)
                .bind(&cluster)
                .bind(&name)
                .execute(&mut *self.conn)
                .await?;
                if deleted == 0 {
                    return Err(LedgerError::Refused(format!(
                        "{trust_domain} has no watcher {name} of cluster {cluster}"
                    )));
                }
                Ok(ChangeResult::done("forget-watcher", name, reason))
            }
        }
    }
}
