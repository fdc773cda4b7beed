//! Opening the database: file, lock, schema.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rustix::fs::{Access, access};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Decode, Sqlite, SqliteConnection, Type};

use super::lock::ServerLock;
use super::opened_file::OpenedFile;
use super::values::{is_busy, is_not_a_database};
use crate::file_access::{denied, give_to_owner_of};
use crate::ledger::LedgerError;

static MIGRATIONS: Migrator = sqlx::migrate!("src/ledger/sqlite/migrations");

/// `PRAGMA application_id` of every ledger: "RBLG".
const APPLICATION_ID: i64 = 0x5242_4c47;

/// Who opens the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file's only server.
    Server,
    /// A command, beside a server or not.
    Shared,
}

/// How long another process may take to create or upgrade the file.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// Opens connections to one file.
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

    /// A connection that changes nothing about the file, its journal mode included.
    pub(super) async fn reader(&self) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging()
            .connect()
            .await
    }

    pub(super) async fn writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        let mut writer = self
            .options
            .clone()
            // Pages that many rows share (the ends of the tables, the newest span) are checkpointed
            // once for many commits; the log stays at about 16 MiB.
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-8192")
            .thread_name(|_| "ledger-writer".into())
            .connect()
            .await?;
        // Once it is open, it waits for one lock only, and `transaction::begin` does that better.
        sqlx::query("PRAGMA busy_timeout = 3")
            .execute(&mut writer)
            .await?;
        Ok(writer)
    }

    /// A pool of read-only connections, opened on demand.
    pub(super) fn readers(&self, file: Option<Arc<OpenedFile>>) -> SqlitePool {
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
            .after_connect(move |_, _| {
                // A connection to a file that was put in the ledger's place reads nothing.
                let checked = file.as_ref().map_or(Ok(()), |file| file.check());
                async move { checked.map_err(|error| sqlx::Error::Configuration(error.into())) }
                    .boxed()
            })
            .connect_lazy_with(options)
    }
}

/// Creates the file if necessary, locks it for a server, and upgrades its schema.
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
            "{} cannot be opened: the directory {} does not exist; create it, or correct the ledger's path",
            path.display(),
            parent.display()
        )));
    }
    create(path, parent).map_err(|error| {
        let denied = denied(path, &error);
        LedgerError::unavailable(format!(
            "{} cannot be opened: {error}{denied}",
            path.display()
        ))
    })?;
    if path.is_dir() {
        return Err(LedgerError::unavailable(format!(
            "{} cannot be opened: it is a directory; correct the ledger's path",
            path.display()
        )));
    }
    let lock = match mode {
        OpenMode::Server => Some(ServerLock::take(path)?),
        OpenMode::Shared => None,
    };
    if let Some(lock) = &lock {
        lock.database().check()?;
    }
    // access(2) instead of opening the file: closing it again would release the locks that SQLite
    // holds on it in this process.
    for (path_to_check, mode) in [
        (path, Access::READ_OK | Access::WRITE_OK),
        (parent, Access::WRITE_OK),
    ] {
        access(path_to_check, mode).map_err(|error| {
            let denied = denied(path_to_check, &error.into());
            LedgerError::unavailable(format!(
                "{} cannot be opened: {} is not writable: {error}{denied}",
                path.display(),
                path_to_check.display()
            ))
        })?;
    }
    let failed = |error| with_path(path, error);
    // A file that is no ledger must not even change its journal mode.
    let mut conn = connector.reader().await.map_err(failed)?;
    let found = schema_version(&mut conn, path).await;
    let _ = conn.close().await;
    if found? != Some(newest_version()) {
        let retries = Retries::new();
        let mut connected = connector.writer().await;
        while retries.again(&connected) {
            tokio::time::sleep(Retries::PAUSE).await;
            connected = connector.writer().await;
        }
        let mut conn = connected.map_err(failed)?;
        // A lock for the upgrade ends after the connection, whose own locks would end with it.
        let upgraded = upgrade(&mut conn, path, lock.is_some()).await;
        // The upgrade's error is the one to report.
        let _ = conn.close().await;
        drop(upgraded?);
    }
    Ok(lock)
}

/// Rootbridge creates the file, not SQLite, so that no other user can ever read it. Its name must
/// be durable before the first record is.
fn create(path: &Path, parent: &Path) -> std::io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(file) => {
            give_to_owner_of(parent, &file)?;
            file.sync_all()?;
            File::open(parent)?.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::metadata(path).map(drop),
        // SQLite opens an existing file in a directory where none can be created.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(error),
    }
}

/// While another process creates or upgrades the file: SQLite's own time-out does not cover each of its
/// locks, and a slow disk takes longer.
struct Retries {
    until: Instant,
}

impl Retries {
    const PAUSE: Duration = Duration::from_millis(20);

    fn new() -> Self {
        Self {
            until: Instant::now() + UPGRADE_TIME,
        }
    }

    fn again<T>(&self, result: &Result<T, sqlx::Error>) -> bool {
        result.as_ref().is_err_and(is_busy) && Instant::now() < self.until
    }
}

async fn upgrade(
    conn: &mut SqliteConnection,
    path: &Path,
    locked: bool,
) -> Result<Option<ServerLock>, LedgerError> {
    let supported = newest_version();
    if schema_version(conn, path).await? == Some(supported) {
        return Ok(None);
    }
    // Two commands may open a new file at once, so a command holds the lock during the upgrade.
    let deadline = Instant::now() + UPGRADE_TIME;
    let lock = loop {
        if locked {
            break None;
        }
        match ServerLock::take(path) {
            Ok(lock) => break Some(lock),
            Err(error @ LedgerError::Locked { .. }) => match schema_version(conn, path).await? {
                Some(found) if found == supported => return Ok(None),
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
        })?;
    Ok(lock)
}

async fn read<T>(conn: &mut SqliteConnection, query: &'static str) -> Result<T, sqlx::Error>
where
    T: Send + Unpin + Type<Sqlite> + for<'r> Decode<'r, Sqlite>,
{
    let retries = Retries::new();
    let mut value = sqlx::query_scalar(query).fetch_one(&mut *conn).await;
    while retries.again(&value) {
        tokio::time::sleep(Retries::PAUSE).await;
        value = sqlx::query_scalar(query).fetch_one(&mut *conn).await;
    }
    value
}

/// The file's schema version; `None` while it is empty.
pub(super) async fn schema_version(
    conn: &mut SqliteConnection,
    path: &Path,
) -> Result<Option<u64>, LedgerError> {
    let not_a_ledger = |reason: String| LedgerError::NotALedger {
        path: path.to_owned(),
        reason,
    };
    let tables: i64 = read(conn, "SELECT count(*) FROM sqlite_schema")
        .await
        .map_err(|error| with_path(path, error))?;
    if tables == 0 {
        return Ok(None);
    }
    let newest = "SELECT max(version) FROM _sqlx_migrations WHERE success";
    let version: Result<Option<i64>, _> = read(conn, newest).await;
    let version = match version {
        Ok(version) => version,
        Err(error) if is_busy(&error) => return Err(with_path(path, error)),
        Err(_) => return Err(not_a_ledger("a database of another program".to_owned())),
    };
    // sqlx creates its table before it runs the first migration.
    let Some(version) = version else {
        return Ok(None);
    };
    // Read after the version: another process may create the schema in between.
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

/// The newest schema version that this binary supports.
pub(super) fn newest_version() -> u64 {
    let newest = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    u64::try_from(newest).unwrap_or_default()
}

/// Adds the file's name to the error.
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
