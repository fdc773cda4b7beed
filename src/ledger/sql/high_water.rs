//! How far the store has come, and how it compares with a mark. The caller holds a transaction.

use std::collections::BTreeMap;

use super::change_context::revision;
use super::columns::Columns;
use super::connection::{Connection, query};
use crate::digest::{hex, sha256};
use crate::ledger::{HighWater, LedgerError};

pub(in crate::ledger) async fn high_water(
    conn: &mut dyn Connection,
) -> Result<HighWater, LedgerError> {
    let row = query(
        "SELECT coalesce((SELECT max(id) FROM intent), 0) AS intent,
            coalesce((SELECT max(intent) FROM conclusion), 0) AS concluded",
    )
    .fetch_one(&mut *conn)
    .await?;
    let row = Columns::of(&row);
    let (intent, concluded) = (row.number("intent")?, row.number("concluded")?);
    let revision = revision(conn).await?;
    let digest = digest(conn, intent, revision).await?;
    let rows = query(
        "SELECT trust_domain, max(sequence) AS sequence FROM bundle
         JOIN authority ON authority.id = authority GROUP BY trust_domain",
    )
    .fetch_all(conn)
    .await?;
    let mut bundles = BTreeMap::new();
    for row in &rows {
        let row = Columns::of(row);
        bundles.insert(row.get("trust_domain")?, row.number("sequence")?);
    }
    Ok(HighWater {
        revision,
        intent,
        concluded,
        digest,
        bundles,
    })
}

/// Of the oldest change that names a key: no other store has the same. Nothing is signed before it.
pub(in crate::ledger) async fn identity(
    conn: &mut dyn Connection,
) -> Result<Option<String>, LedgerError> {
    let row = query(
        "SELECT at, actor, via, action, target, detail FROM operator_action
         WHERE action = 'add-issuer' ORDER BY id LIMIT 1",
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Columns::of(&row);
    let mut text = row.get::<i64>("at")?.to_string();
    for column in ["actor", "via", "action", "target", "detail"] {
        text.push('\0');
        text.push_str(&row.get::<String>(column)?);
    }
    Ok(Some(hex(&sha256(text.as_bytes()))))
}

/// What the store lacks of a mark, or holds otherwise; `None` when it holds all of it.
pub(in crate::ledger) async fn behind(
    conn: &mut dyn Connection,
    mark: &HighWater,
) -> Result<Option<String>, LedgerError> {
    let found = high_water(conn).await?;
    let bundle = mark.bundles.iter().find(|(trust_domain, sequence)| {
        found.bundles.get(*trust_domain).copied().unwrap_or(0) < **sequence
    });
    let is_behind = found.intent < mark.intent
        || found.concluded < mark.concluded
        || found.revision < mark.revision
        || bundle.is_some();
    if is_behind {
        return Ok(Some(format!("it ends at {found}")));
    }
    let same = digest(conn, mark.intent, mark.revision).await? == mark.digest;
    Ok((!same).then(|| {
        format!(
            "it holds another intent {} or another change {} than the server recorded",
            mark.intent, mark.revision
        )
    }))
}

/// Over one intent and one change of the records.
async fn digest(
    conn: &mut dyn Connection,
    intent: u64,
    revision: u64,
) -> Result<String, LedgerError> {
    let mut text = Vec::new();
    let mut add = |bytes: &[u8]| {
        text.extend((bytes.len() as u64).to_be_bytes());
        text.extend(bytes);
    };
    let row = query("SELECT tbs, recorded_at, request_id, caller FROM intent WHERE id = $1")
        .bind(i64::try_from(intent).unwrap_or(i64::MAX))
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(row) = row {
        let row = Columns::of(&row);
        add(&row.get::<Vec<u8>>("tbs")?);
        add(&row.get::<i64>("recorded_at")?.to_be_bytes());
        add(row.get::<String>("request_id")?.as_bytes());
        add(row.get::<String>("caller")?.as_bytes());
    }
    let rows = query(
        "SELECT at, actor, action, target, detail FROM operator_action WHERE revision = $1 ORDER BY id",
    )
    .bind(i64::try_from(revision).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    for row in &rows {
        let row = Columns::of(row);
        add(&row.get::<i64>("at")?.to_be_bytes());
        for column in ["actor", "action", "target", "detail"] {
            add(row.get::<String>(column)?.as_bytes());
        }
    }
    Ok(hex(&sha256(&text)))
}
