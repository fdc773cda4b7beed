//! The lock of a server on its database: a file beside it, whose lock the kernel releases with the
//! process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::file_access::{denied, give_to_owner_of};
use crate::ledger::LedgerError;

/// Released when dropped.
#[derive(Debug)]
pub(super) struct ServerLock(File);

impl ServerLock {
    /// Locks the database `path`.
    pub(super) fn take(path: &Path) -> Result<Self, LedgerError> {
        let lock_path = lock_path(path);
        let failed = |error: std::io::Error| {
            let denied = denied(&lock_path, &error);
            LedgerError::unavailable(format!(
                "cannot lock the ledger at {}: {error}{denied}",
                lock_path.display()
            ))
        };
        let mut file = open(&lock_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The contents only improve the message.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "unnamed".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(LedgerError::Locked {
                    path: path.to_owned(),
                    holder,
                });
            }
        }
        let lock = Self(file);
        lock.write(&format!("pid {}", process::id()))
            .map_err(failed)?;
        Ok(lock)
    }

    /// Adds the instance's name to the lock file; a failure is harmless.
    pub(super) fn set_instance(&self, instance: &str) {
        let holder = format!("pid {}, instance {instance}", process::id());
        if let Err(error) = self.write(&holder) {
            tracing::debug!(%error, "the ledger's lock file does not show the instance");
        }
    }

    fn write(&self, holder: &str) -> std::io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    }
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

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
