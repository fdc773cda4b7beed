//! The check of the database.

use super::guards::missing_guards;
use super::migrations::newest_version;
use super::query::certificates;
use super::replication::replication;
use super::session::Session;
use crate::ledger::sql::{self, difference, query_scalar};
use crate::ledger::{CheckReport, Filter, LedgerError};

/// How many of the newest rows are compared with their certificates.
const SAMPLE: u32 = 1000;

/// What foreign keys say in SQLite.
const DANGLING: &str = "SELECT
    (SELECT count(*) FROM conclusion WHERE NOT EXISTS
        (SELECT 1 FROM intent WHERE intent.id = conclusion.intent))
    + (SELECT count(*) FROM intent WHERE NOT EXISTS
        (SELECT 1 FROM issuer WHERE issuer.id = intent.issuer))
    + (SELECT count(*) FROM intent WHERE NOT EXISTS
        (SELECT 1 FROM epoch WHERE epoch.id = intent.epoch)) AS n";

/// The caller holds a read transaction.
pub(super) async fn check(session: &mut Session) -> Result<CheckReport, LedgerError> {
    let mut problems = Vec::new();
    problems.extend(missing_guards(session).await?);
    let dangling: i64 = query_scalar(DANGLING).fetch_one(session).await?;
    if dangling > 0 {
        problems.push(format!("{dangling} rows refer to rows that do not exist"));
    }
    let checked = sql::check(session).await?;
    problems.extend(checked.problems);
    let newest = Filter {
        limit: SAMPLE,
        ..Filter::default()
    };
    for row in certificates(session, &newest).await? {
        problems.extend(difference(&row));
    }
    let schema: i64 = query_scalar("SELECT max(version) AS version FROM rootbridge_schema")
        .fetch_one(session)
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
        replication: Some(replication(session).await?),
    })
}
