//! What the schema itself refuses: changes of what is on record, and a second row where there may be one.
//! Somebody who works on the database by hand may have taken it away.

use std::collections::HashSet;

use super::migrations::MIGRATIONS;
use crate::ledger::LedgerError;
use crate::ledger::sql::{Connection, query_scalar};

/// The unique indexes without which two servers could use one serial, answer one key twice, or make two
/// rows of what there is one of.
const KEYS: &[&str] = &[
    "anchor_in_use",
    "authority_trust_domain_key",
    "bundle_authority_sequence_key",
    "ca_certificate_issuer_sha256_anchor_key",
    "ca_request_in_flight",
    "conclusion_pkey",
    "epoch_instance_boot_key",
    "instance_pkey",
    "intent_issuer_serial_key",
    "intent_origin",
    "intent_pkey",
    "issuer_key_key",
    "planned_key_token_key_id_key",
    "rotation_open",
    "work_lease_pkey",
];

/// The names of triggers that are enabled, and of unique indexes that are valid.
const PRESENT: &str = "SELECT CAST(tgname AS text) AS name FROM pg_trigger
        JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE proname = 'rootbridge_refuse' AND tgenabled IN ('O', 'A')
        AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'intent'::regclass)
    UNION ALL SELECT CAST(relname AS text) FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indisunique AND indisvalid
        AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'intent'::regclass)";

/// The triggers of all migrations.
fn triggers() -> impl Iterator<Item = &'static str> {
    MIGRATIONS
        .iter()
        .flat_map(|migration| migration.sql.split("CREATE TRIGGER ").skip(1))
        .filter(|rest| {
            let end = rest.find(';').unwrap_or(rest.len());
            rest.get(..end)
                .is_some_and(|statement| statement.contains("rootbridge_refuse"))
        })
        .filter_map(|rest| rest.split_whitespace().next())
}

/// What is missing or disabled, and what to do; `None` for a schema that is whole.
pub(super) async fn missing_guards(
    conn: &mut dyn Connection,
) -> Result<Option<String>, LedgerError> {
    let present: Vec<String> = query_scalar(PRESENT).fetch_all(conn).await?;
    let present: HashSet<&str> = present.iter().map(String::as_str).collect();
    let missing = |names: Vec<&'static str>| -> Vec<&'static str> {
        let mut names = names;
        names.retain(|name| !present.contains(name));
        names
    };
    let triggers = missing(triggers().collect());
    let keys = missing(KEYS.to_vec());
    let mut parts = Vec::new();
    if !triggers.is_empty() {
        parts.push(format!(
            "triggers that refuse changes of what is on record are missing or disabled ({})",
            triggers.join(", ")
        ));
    }
    if !keys.is_empty() {
        parts.push(format!(
            "unique indexes are missing or invalid ({})",
            keys.join(", ")
        ));
    }
    Ok((!parts.is_empty()).then(|| {
        format!(
            "the schema was changed by hand: {}. Find out by whom, enable or make them again as the owner \
             (ALTER TABLE … ENABLE TRIGGER …, or the statement of a new database's schema)",
            parts.join(", and ")
        )
    }))
}
