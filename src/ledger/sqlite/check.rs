//! The check of the file.

use sqlx::SqliteConnection;

use super::open::newest_version;
use super::query::newest;
use crate::ledger::sql::{self, difference, query_scalar};
use crate::ledger::{CheckReport, LedgerError};

/// How many of the newest rows are compared with their certificates.
const SAMPLE: i64 = 1000;

/// The caller holds a read transaction.
pub(super) async fn check(conn: &mut SqliteConnection) -> Result<CheckReport, LedgerError> {
    let mut problems: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(10)")
        .fetch_all(&mut *conn)
        .await?;
    problems.retain(|line| line != "ok");
    // Every reference, such as that of an issuance to its issuer.
    let dangling: i64 = query_scalar("SELECT count(*) AS n FROM pragma_foreign_key_check")
        .fetch_one(&mut *conn)
        .await?;
    if dangling > 0 {
        problems.push(format!("{dangling} rows refer to rows that do not exist"));
    }
    let checked = sql::check(conn).await?;
    problems.extend(checked.problems);
    for row in newest(conn, SAMPLE).await? {
        problems.extend(difference(&row));
    }
    let schema: i64 = query_scalar("SELECT max(version) AS version FROM _sqlx_migrations")
        .fetch_one(conn)
        .await?;
    let schema = u64::try_from(schema).unwrap_or_default();
    if schema != newest_version() {
        problems.push(format!(
            "schema version {schema} is not {}",
            newest_version()
        ));
    }
    Ok(CheckReport {
        schema,
        intents: checked.intents,
        conclusions: checked.conclusions,
        authorities: checked.authorities,
        revision: checked.revision,
        problems,
        replication: None,
    })
}
