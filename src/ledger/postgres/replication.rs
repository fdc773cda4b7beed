//! Which standbys confirm a commit.

use super::session::Session;
use crate::ledger::sql::{Columns, query};
use crate::ledger::{LedgerError, Replication, Standby};

/// The caller holds a read transaction.
pub(super) async fn replication(session: &mut Session) -> Result<Replication, LedgerError> {
    let row = query(
        "SELECT current_setting('synchronous_standby_names') AS names,
            current_setting('synchronous_commit') AS commit",
    )
    .fetch_one(session)
    .await?;
    let row = Columns::of(&row);
    let (names, commit) = (row.get("names")?, row.get("commit")?);
    // Without pg_read_all_stats, the columns of other roles' connections are NULL.
    let rows = query(
        "SELECT application_name AS name, sync_state AS state FROM pg_stat_replication
         WHERE state IS DISTINCT FROM 'backup' ORDER BY name",
    )
    .fetch_all(session)
    .await?;
    let mut standbys = Vec::new();
    for row in &rows {
        let row = Columns::of(row);
        let state: Option<String> = row.get("state")?;
        standbys.push(Standby {
            name: row.get::<Option<String>>("name")?.unwrap_or_default(),
            confirms: state.map(|state| state == "sync" || state == "quorum"),
        });
    }
    Ok(Replication {
        names,
        commit,
        standbys,
    })
}
