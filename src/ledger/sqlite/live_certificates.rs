//! The search for certificates that may still be valid, by who holds them.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::digest::hex;
use crate::ledger::sql::own_keys;
use crate::ledger::{LedgerError, Live, LiveFilter};

/// Every intent of the authority that was not a failure and has not expired: what is recorded and
/// has no outcome yet counts, since it may be signed. Spans without a live certificate are passed by.
const LIVE: &str = "FROM span s CROSS JOIN intent i
        ON i.id BETWEEN s.span << 12 AND (s.span << 12) + 4095
     JOIN issuer ON issuer.id = i.issuer
     LEFT JOIN ca_certificate ca ON ca.id = i.ca_certificate
     LEFT JOIN conclusion c ON c.intent = i.id
     WHERE s.expires_max > ?1 AND i.not_after > ?1 AND i.kind IN (1, 2) AND issuer.authority = ?2
       AND (c.state IS NULL OR c.state <> 2)";

/// The caller holds a transaction.
pub(super) async fn live_rows(
    conn: &mut SqliteConnection,
    authority: i64,
    filter: &LiveFilter,
) -> Result<Vec<SqliteRow>, LedgerError> {
    let now = filter.now.secs();
    let rows = match &filter.which {
        Live::Below { issuers, anchor } => {
            let keys: Vec<_> = issuers.iter().map(|id| format!("\"{id}\"")).collect();
            let sql = format!(
                "WITH live AS (SELECT i.* {LIVE}
                    AND (issuer.key IN (SELECT value FROM json_each(?3)) OR ca.anchor = ?4
                        OR issuer.id IN (SELECT issuer FROM ca_certificate WHERE sha256 = ?4))
                    AND (i.kind = 1 OR lower(hex(i.spki_sha256)) NOT IN
                        (SELECT value FROM json_each(?5))))
                 {GROUPED}"
            );
            let own = own_keys(conn, authority).await?;
            let own: Vec<_> = own.iter().map(|key| format!("\"{}\"", hex(key))).collect();
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(now)
                .bind(authority)
                .bind(format!("[{}]", keys.join(",")))
                .bind(anchor.map(|sha256| sha256.to_vec()))
                .bind(format!("[{}]", own.join(",")))
                .fetch_all(conn)
                .await?
        }
        Live::WithoutAnchor {
            anchor,
            received_before,
        } => {
            // Only what was issued is received, and what is not concluded may still be. Only a pod is
            // one holder: of a name without a pod any number of processes may run.
            let sql = format!(
                "WITH good AS (SELECT digest FROM bundle JOIN bundle_anchor ON bundle = bundle.id
                    WHERE authority = ?2 AND der IN
                        (SELECT der FROM anchor WHERE authority = ?2 AND sha256 = ?3)),
                 returned AS (SELECT i.*, c.state AS state,
                        i.bundle_digest IN (SELECT digest FROM good) AS good
                    {LIVE} AND i.kind = 1 AND i.bundle_digest IS NOT NULL),
                 renewed AS (SELECT subject, coalesce(cluster, '') AS cluster, pod, max(id) AS id
                    FROM returned WHERE good AND state = 1 AND pod IS NOT NULL
                    GROUP BY 1, 2, 3 HAVING max(recorded_at) < ?4),
                 live AS (SELECT returned.* FROM returned LEFT JOIN renewed
                        ON renewed.subject = returned.subject AND renewed.pod = returned.pod
                        AND renewed.cluster = coalesce(returned.cluster, '')
                    WHERE NOT good AND (state IS NULL OR renewed.id IS NULL
                        OR renewed.id < returned.id))
                 {GROUPED}"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(now)
                .bind(authority)
                .bind(anchor.to_vec())
                .bind(received_before.secs())
                .fetch_all(conn)
                .await?
        }
    };
    Ok(rows)
}

/// SQLite takes the other columns from the row of the max.
const GROUPED: &str = "SELECT kind, subject, cluster, pod, spki_sha256, count(*) AS certificates,
        max(not_after) AS until, newest FROM
        (SELECT *, recorded_at AS newest FROM live)
     GROUP BY kind, subject, cluster, pod, CASE kind WHEN 2 THEN spki_sha256 END
     ORDER BY until DESC, subject";
