//! The schema: made and upgraded once, whichever server or command comes first.

use super::guards::missing_guards;
use super::migrations::{MIGRATIONS, newest_version};
use super::session::{BEGIN, Session};
use super::settings::PostgresConfig;
use crate::ledger::LedgerError;
use crate::ledger::sql::{Columns, Connection, query, query_scalar};

/// Of the advisory lock that upgrades are made under: "RBLM".
const UPGRADE_LOCK: i64 = 0x5242_4c4d;

/// Upgrades the schema if necessary.
///
/// # Errors
/// [`LedgerError::NewerSchema`], [`LedgerError::NotALedger`], [`LedgerError::Unavailable`].
pub(super) async fn prepare(
    session: &mut Session,
    settings: &PostgresConfig,
) -> Result<(), LedgerError> {
    if version(session, settings).await? != Some(newest_version()) {
        session.simple(BEGIN).await?;
        let upgraded = upgrade(session, settings).await;
        let ended = match upgraded {
            Ok(()) => session.simple("COMMIT").await,
            Err(error) => {
                session.roll_back().await;
                Err(error)
            }
        };
        ended?;
    }
    match missing_guards(session).await? {
        None => Ok(()),
        Some(problem) => Err(LedgerError::Damaged(problem)),
    }
}

/// Whether there is one, of whichever version.
///
/// # Errors
/// Those of [`prepare`].
pub(super) async fn exists(
    session: &mut Session,
    settings: &PostgresConfig,
) -> Result<bool, LedgerError> {
    Ok(version(session, settings).await?.is_some())
}

async fn upgrade(session: &mut Session, settings: &PostgresConfig) -> Result<(), LedgerError> {
    // Others wait here, and then find the work done.
    query("SELECT pg_advisory_xact_lock($1)")
        .bind(UPGRADE_LOCK)
        .fetch_all(session)
        .await?;
    let found = version(session, settings).await?;
    if found.is_none() {
        session
            .simple(
                "CREATE TABLE rootbridge_schema (
                    version        bigint PRIMARY KEY,
                    oldest_program bigint NOT NULL,
                    made_at        timestamptz NOT NULL DEFAULT now()
                )",
            )
            .await?;
    }
    for migration in MIGRATIONS {
        if found.is_some_and(|found| migration.version <= found) {
            continue;
        }
        session.simple(migration.sql).await?;
        query("INSERT INTO rootbridge_schema (version, oldest_program) VALUES ($1, $2)")
            .bind(i64::try_from(migration.version).unwrap_or(i64::MAX))
            .bind(i64::try_from(migration.oldest_program).unwrap_or(i64::MAX))
            .execute(session)
            .await?;
        tracing::info!(
            version = migration.version,
            "the ledger's schema was made or upgraded"
        );
    }
    Ok(())
}

/// The database's schema version; `None` while it has none.
async fn version(
    session: &mut Session,
    settings: &PostgresConfig,
) -> Result<Option<u64>, LedgerError> {
    let exists: bool = query_scalar("SELECT to_regclass('rootbridge_schema') IS NOT NULL AS there")
        .fetch_one(session)
        .await?;
    if !exists {
        let foreign: bool = query_scalar("SELECT to_regclass('intent') IS NOT NULL AS there")
            .fetch_one(session)
            .await?;
        return if foreign {
            Err(LedgerError::NotALedger {
                path: settings.name().into(),
                reason: "it has a table intent of another program".to_owned(),
            })
        } else {
            Ok(None)
        };
    }
    let row = query(
        "SELECT coalesce(max(version), 0) AS version, coalesce(max(oldest_program), 0) AS oldest
         FROM rootbridge_schema",
    )
    .fetch_one(session as &mut dyn Connection)
    .await?;
    let row = Columns::of(&row);
    let (found, oldest) = (row.number("version")?, row.number("oldest")?);
    let supported = newest_version();
    if oldest > supported {
        return Err(LedgerError::NewerSchema {
            path: settings.name().into(),
            found,
            supported,
        });
    }
    // A newer one that this program works beside.
    Ok(Some(found.min(supported)))
}
