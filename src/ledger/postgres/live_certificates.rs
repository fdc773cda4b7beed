//! The search for certificates that may still be valid, by who holds them.

use tokio_postgres::types::Type;

use super::session::Session;
use crate::ledger::sql::{Row, own_keys};
use crate::ledger::{LedgerError, Live, LiveFilter};

/// Every intent of the authority that was not a failure and has not expired: what is recorded and
/// has no outcome yet counts, since it may be signed.
const LIVE: &str = "FROM intent i JOIN issuer ON issuer.id = i.issuer
     LEFT JOIN ca_certificate ca ON ca.id = i.ca_certificate
     LEFT JOIN conclusion c ON c.intent = i.id
     WHERE i.not_after > $1 AND i.kind IN (1, 2) AND issuer.authority = $2
       AND (c.state IS NULL OR c.state <> 2)";

/// The row of each holder's last certificate, and how many there are.
const GROUPED: &str = "SELECT * FROM
        (SELECT DISTINCT ON (kind, subject, cluster, pod, key) kind, subject, cluster, pod, spki_sha256,
            count(*) OVER (PARTITION BY kind, subject, cluster, pod, key) AS certificates,
            not_after AS until, recorded_at AS newest
         FROM (SELECT *, CASE kind WHEN 2 THEN spki_sha256 END AS key FROM live) AS keyed
         ORDER BY kind, subject, cluster, pod, key, not_after DESC, id DESC) AS holder
     ORDER BY until DESC, subject";

/// The caller holds a transaction.
pub(super) async fn live_rows(
    session: &mut Session,
    authority: i64,
    filter: &LiveFilter,
) -> Result<Vec<Row>, LedgerError> {
    let now = filter.now.secs();
    let rows = match &filter.which {
        Live::Below { issuers, anchor } => {
            let sql = format!(
                "WITH live AS (SELECT i.* {LIVE}
                    AND (issuer.key = ANY($3) OR ca.anchor = $4
                        OR issuer.id IN (SELECT issuer FROM ca_certificate WHERE sha256 = $4))
                    AND (i.kind = 1 OR i.spki_sha256 <> ALL($5)))
                 {GROUPED}"
            );
            let keys: Vec<_> = issuers.iter().map(|id| id.as_str()).collect();
            let anchor = anchor.as_ref().map(<[u8; 32]>::as_slice);
            let own = own_keys(session, authority).await?;
            let own: Vec<_> = own.iter().map(<[u8; 32]>::as_slice).collect();
            session
                .query(
                    &sql,
                    &[
                        (&now, Type::INT8),
                        (&authority, Type::INT8),
                        (&keys, Type::TEXT_ARRAY),
                        (&anchor, Type::BYTEA),
                        (&own, Type::BYTEA_ARRAY),
                    ],
                )
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
                    WHERE authority = $2 AND der IN
                        (SELECT der FROM anchor WHERE authority = $2 AND sha256 = $3)),
                 returned AS (SELECT i.*, c.state AS state,
                        i.bundle_digest IN (SELECT digest FROM good) AS good
                    {LIVE} AND i.kind = 1 AND i.bundle_digest IS NOT NULL),
                 renewed AS (SELECT subject, coalesce(cluster, '') AS cluster, pod, max(id) AS id
                    FROM returned WHERE good AND state = 1 AND pod IS NOT NULL
                    GROUP BY 1, 2, 3 HAVING max(recorded_at) < $4),
                 live AS (SELECT returned.* FROM returned LEFT JOIN renewed
                        ON renewed.subject = returned.subject AND renewed.pod = returned.pod
                        AND renewed.cluster = coalesce(returned.cluster, '')
                    WHERE NOT good AND (state IS NULL OR renewed.id IS NULL
                        OR renewed.id < returned.id))
                 {GROUPED}"
            );
            let (anchor, before) = (anchor.as_slice(), received_before.secs());
            session
                .query(
                    &sql,
                    &[
                        (&now, Type::INT8),
                        (&authority, Type::INT8),
                        (&anchor, Type::BYTEA),
                        (&before, Type::INT8),
                    ],
                )
                .await?
        }
    };
    Ok(rows.into_iter().map(|row| Box::new(row) as Row).collect())
}
