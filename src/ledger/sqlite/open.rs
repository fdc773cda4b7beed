//! From a path to a connection that can be trusted: file, lock, schema.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::columns::{is_busy, is_not_a_database};
use super::lock::ServerLock;
use crate::ledger::LedgerError;

static MIGRATIONS: Migrator = sqlx::migrate!("src/ledger/sqlite/migrations");

/// `PRAGMA application_id` of every ledger: "RBLG".
const APPLICATION_ID: i64 = 0x5242_4c47;

/// As who the file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The one server of this file.
    Server,
    /// A command that works next to it.
    Shared,
}

/// How connections to one file are made.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    path: Arc<Path>,
    options: SqliteConnectOptions,
}

impl Connector {
    pub(super) fn new(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode FULL syncs the log once for each commit, before the commit returns.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("temp_store", "memory")
            // A query that wants an index made for it would read the whole table first.
            .pragma("automatic_index", "off")
            .disable_statement_logging();
        Self {
            path: path.into(),
            options,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that changes nothing about the file.
    async fn reader(&self) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging()
            .connect()
            .await
    }

    /// A connection that writes.
    pub(super) async fn writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options
            .clone()
            // Pages that many rows share (the ends of the tables, the newest span) are copied back
            // once for many commits; the log stays at about 16 MiB.
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-8192")
            .thread_name(|_| "ledger-writer".into())
            .connect()
            .await
    }

    /// A pool of connections that only read; none is opened before it is needed.
    pub(super) fn readers(&self) -> SqlitePool {
        let options = self
            .options
            .clone()
            .pragma("query_only", "on")
            .pragma("cache_size", "-4096")
            .thread_name(|n| format!("ledger-read-{n}"));
        SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .idle_timeout(Duration::from_secs(60))
            .test_before_acquire(false)
            .connect_lazy_with(options)
    }
}

/// Makes the file where there is none, locks it for a server, and brings its schema up to date.
pub(super) async fn prepare(
    connector: &Connector,
    mode: OpenMode,
) -> Result<Option<ServerLock>, LedgerError> {
    let path = connector.path();
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(LedgerError::unavailable(format!(
            "{} cannot be opened: there is no directory {}; make it, or correct the ledger's path",
            path.display(),
            parent.display()
        )));
    }
    let lock = match mode {
        OpenMode::Server => Some(ServerLock::take(path)?),
        OpenMode::Shared => None,
    };
    create(path, parent).map_err(|error| {
        LedgerError::unavailable(format!("{} cannot be opened: {error}", path.display()))
    })?;
    // Asked of the kernel, not by opening the file: closing it again would take away the locks that
    // SQLite has on it in this process.
    for (what, needs) in [
        (path, Access::READ_OK | Access::WRITE_OK),
        (parent, Access::WRITE_OK),
    ] {
        access(what, needs).map_err(|error| {
            LedgerError::unavailable(format!(
                "{} cannot be opened: {} cannot be written: {error}",
                path.display(),
                what.display()
            ))
        })?;
    }
    let here = |error| with_path(path, error);
    // What is no ledger is not even switched to another journal.
    let mut conn = connector.reader().await.map_err(here)?;
    let found = schema_version(&mut conn, path).await;
    let _ = conn.close().await;
    if found? != Some(newest_version()) {
        let mut conn = connector.writer().await.map_err(here)?;
        let done = upgrade(&mut conn, path, lock.is_some()).await;
        // The error that counts is the upgrade's.
        let _ = conn.close().await;
        done?;
    }
    Ok(lock)
}

/// The file is made here and not by SQLite, so that nobody else can ever read it. Its name must be
/// durable before the first promise is.
fn create(path: &Path, parent: &Path) -> std::io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(file) => {
            file.sync_all()?;
            File::open(parent)?.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::metadata(path).map(drop),
        // A file that exists where nothing can be made is for SQLite to judge.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn upgrade(
    conn: &mut SqliteConnection,
    path: &Path,
    locked: bool,
) -> Result<(), LedgerError> {
    let supported = newest_version();
    if schema_version(conn, path).await? == Some(supported) {
        return Ok(());
    }
    // Two commands may meet at a new file, so whoever is no server holds the lock meanwhile.
    let deadline = Instant::now() + Duration::from_secs(10);
    let _lock = loop {
        if locked {
            break None;
        }
        match ServerLock::take(path) {
            Ok(lock) => break Some(lock),
            Err(error @ LedgerError::Locked { .. }) => match schema_version(conn, path).await? {
                Some(found) if found == supported => return Ok(()),
                Some(found) if Instant::now() > deadline => {
                    return Err(LedgerError::OlderSchema {
                        path: path.to_owned(),
                        found,
                        supported,
                    });
                }
                None if Instant::now() > deadline => return Err(error),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Err(error) => return Err(error),
        }
    };
    MIGRATIONS
        .run_direct(None, conn, false)
        .await
        .map_err(|error| {
            LedgerError::unavailable(format!("{} cannot be upgraded: {error}", path.display()))
        })
}

/// The file's schema version; `None` while it is empty.
async fn schema_version(
    conn: &mut SqliteConnection,
    path: &Path,
) -> Result<Option<u64>, LedgerError> {
    let not_a_ledger = |reason: String| LedgerError::NotALedger {
        path: path.to_owned(),
        reason,
    };
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| with_path(path, error))?;
    if tables == 0 {
        return Ok(None);
    }
    let version: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&mut *conn)
            .await;
    let version = match version {
        Ok(version) => version,
        Err(error) if is_busy(&error) => return Err(with_path(path, error)),
        Err(_) => return Err(not_a_ledger("a database of another program".to_owned())),
    };
    // The table of migrations is made before the first of them is run.
    let Some(version) = version else {
        return Ok(None);
    };
    // Read after the version: another process may have made the schema between the two.
    let application: i64 = sqlx::query_scalar("SELECT application_id FROM pragma_application_id")
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| with_path(path, error))?;
    if application != APPLICATION_ID {
        return Err(not_a_ledger(format!(
            "its application id is {application:#x}"
        )));
    }
    let found = u64::try_from(version).unwrap_or_default();
    let supported = newest_version();
    if found > supported {
        return Err(LedgerError::NewerSchema {
            path: path.to_owned(),
            found,
            supported,
        });
    }
    Ok(Some(found))
}

/// The newest schema version that this binary knows.
pub(super) fn newest_version() -> u64 {
    let newest = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    u64::try_from(newest).unwrap_or_default()
}

/// The fault with the file's name in it.
pub(super) fn with_path(path: &Path, error: sqlx::Error) -> LedgerError {
    if is_not_a_database(&error) {
        return LedgerError::NotALedger {
            path: path.to_owned(),
            reason: error.to_string(),
        };
    }
    match LedgerError::from(error) {
        LedgerError::Unavailable { reason } => {
            LedgerError::unavailable(format!("{}: {reason}", path.display()))
        }
        other => other,
    }
}
