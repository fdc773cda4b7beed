//! The lock of a server on its database: on the file itself, whatever name leads to it, and on a file
//! beside it that says who has it. The kernel releases both with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use super::opened_file::OpenedFile;
use crate::file_access::{denied, give_to_owner_of};
use crate::ledger::LedgerError;

/// Released when dropped.
#[derive(Debug)]
pub(super) struct ServerLock {
    holder: File,
    database: Arc<OpenedFile>,
}

impl ServerLock {
    /// Locks the database `path`, which exists.
    pub(super) fn take(path: &Path) -> Result<Self, LedgerError> {
        let lock_path = lock_path(path);
        let failed = |error: std::io::Error| cannot_lock(&lock_path, &error);
        let holder = open(&lock_path).map_err(failed)?;
        let locked = |error: TryLockError| match error {
            TryLockError::Error(error) => failed(error),
            TryLockError::WouldBlock => {
                let mut text = String::new();
                // The contents only improve the message.
                let _ = (&holder).read_to_string(&mut text);
                let holder = match text.trim() {
                    "" => "unnamed".to_owned(),
                    text => text.to_owned(),
                };
                LedgerError::Locked {
                    path: path.to_owned(),
                    holder,
                }
            }
        };
        if let Err(error) = holder.try_lock() {
            return Err(locked(error));
        }
        let database = OpenedFile::open(path).map_err(|error| cannot_lock(path, &error))?;
        // The same file may be reached by a name in another directory, with another file beside it.
        if let Err(error) = database.file().try_lock() {
            return Err(locked(error));
        }
        let lock = Self {
            holder,
            database: Arc::new(database),
        };
        lock.write(&format!("pid {}", process::id()))
            .map_err(failed)?;
        Ok(lock)
    }

    /// The locked file.
    pub(super) fn database(&self) -> &Arc<OpenedFile> {
        &self.database
    }

    /// Adds the instance's name to the lock file; a failure is harmless.
    pub(super) fn set_instance(&self, instance: &str) {
        let holder = format!("pid {}, instance {instance}", process::id());
        if let Err(error) = self.write(&holder) {
            tracing::debug!(%error, "the ledger's lock file does not show the instance");
        }
    }

    fn write(&self, holder: &str) -> std::io::Result<()> {
        let mut file = &self.holder;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        // Others may still hold the descriptor.
        let _ = self.database.file().unlock();
    }
}

fn cannot_lock(path: &Path, error: &std::io::Error) -> LedgerError {
    let denied = denied(path, error);
    LedgerError::unavailable(format!(
        "cannot lock the ledger at {}: {error}{denied}",
        path.display()
    ))
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
                give_to_owner_of(directory, &file)?;
            }
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Beside the file itself, and not beside a link to it.
fn lock_path(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = path.into_os_string();
    name.push(".lock");
    PathBuf::from(name)
}
