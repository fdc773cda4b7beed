//! Copies of the database: made beside a running server, and verified.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::check::check;
use super::open::{Connector, schema_version, with_path};
use crate::ledger::sql::{behind, high_water};
use crate::ledger::{CheckReport, HighWater, LedgerError};

/// Where the file header says whether there is a write-ahead log: 2 in this octet.
const READ_VERSION: u64 = 19;

/// What a copy of a ledger holds.
#[derive(Debug)]
pub struct CopyReport {
    pub check: CheckReport,
    pub reached: HighWater,
    /// Made by [`backup`]: all of it is in this file. A file that a server had open has, or had, newer
    /// records in a second one.
    pub is_backup: bool,
    /// What it lacks of the mark that it was compared with, or holds otherwise.
    pub behind: Option<String>,
}

/// Copies the ledger at `from`, which a server may use, to the new file `to`. The copy is one state of
/// it, all in one file, and durable when this returns.
///
/// # Errors
/// [`LedgerError::Unavailable`] when one of the files cannot be read or written, or `to` exists;
/// [`LedgerError::NotALedger`], [`LedgerError::NewerSchema`].
pub async fn backup(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        LedgerError::unavailable(format!("no copy was made: {}: {error}", path.display()))
    };
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if to.symlink_metadata().is_ok() {
        return Err(failed(to, &"it exists already"));
    }
    // Made here, so that no other user can ever read it. One that an earlier attempt left is replaced.
    let _ = fs::remove_file(&partial);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .map_err(|error| failed(&partial, &error))?;
    let copied = copy(from, &partial).await.and_then(|()| {
        File::open(&partial)
            .and_then(|file| file.sync_all())
            .map_err(|error| failed(&partial, &error))?;
        renameat_with(CWD, &partial, CWD, to, RenameFlags::NOREPLACE)
            .map_err(|error| failed(to, &error))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed(to, &error))
    });
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied
}

async fn copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let connector = Connector::new(from);
    let mut conn = connector
        .reader()
        .await
        .map_err(|error| with_path(from, error))?;
    let copied = async {
        if schema_version(&mut conn, from).await?.is_none() {
            return Err(LedgerError::NotALedger {
                path: from.to_owned(),
                reason: "it is empty".to_owned(),
            });
        }
        sqlx::query("VACUUM INTO ?")
            .bind(to.to_string_lossy().into_owned())
            .execute(&mut conn)
            .await
            .map_err(|error| with_path(to, error))?;
        Ok(())
    };
    let copied = copied.await;
    let _ = conn.close().await;
    copied
}

/// Checks the copy `path` without changing it, and compares it with `mark`.
///
/// # Errors
/// [`LedgerError::NotALedger`], [`LedgerError::NewerSchema`], and [`LedgerError::Unavailable`] when it
/// cannot be read.
pub async fn verify(path: &Path, mark: Option<&HighWater>) -> Result<CopyReport, LedgerError> {
    let mut version = [0];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut version, READ_VERSION))
        .map_err(|error| {
            LedgerError::unavailable(format!("{} cannot be read: {error}", path.display()))
        })?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = Path::new(&log).exists();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // Without a write-ahead log beside it, none is made.
        .immutable(!has_log)
        .disable_statement_logging();
    let mut conn = options
        .connect()
        .await
        .map_err(|error| with_path(path, error))?;
    let report = check_copy(&mut conn, path, mark).await;
    let _ = conn.close().await;
    let (check, reached, behind) = report?;
    Ok(CopyReport {
        check,
        reached,
        is_backup: version == [1],
        behind,
    })
}

async fn check_copy(
    conn: &mut SqliteConnection,
    path: &Path,
    mark: Option<&HighWater>,
) -> Result<(CheckReport, HighWater, Option<String>), LedgerError> {
    if schema_version(conn, path).await?.is_none() {
        return Err(LedgerError::NotALedger {
            path: path.to_owned(),
            reason: "it is empty".to_owned(),
        });
    }
    let mut problems: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(10)")
        .fetch_all(&mut *conn)
        .await
        .map_err(|error| with_path(path, error))?;
    problems.retain(|line| line != "ok");
    let mut report = check(conn).await?;
    report.problems.retain(|one| !problems.contains(one));
    report.problems.extend(problems);
    let reached = high_water(conn).await?;
    let behind = match mark {
        Some(mark) => behind(conn, mark).await?,
        None => None,
    };
    Ok((report, reached, behind))
}
