//! One server for one file: a lock next to the database, which the kernel drops with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::ledger::LedgerError;

/// A held lock; dropped, it is free.
#[derive(Debug)]
pub(super) struct ServerLock(File);

impl ServerLock {
    /// Takes the lock of the database `path`, or says who has it.
    pub(super) fn take(path: &Path) -> Result<Self, LedgerError> {
        let at = lock_path(path);
        let failed = |error| {
            LedgerError::unavailable(format!(
                "cannot lock the ledger at {}: {error}",
                at.display()
            ))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&at)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What the holder wrote only helps the message.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "which has not said its name".to_owned(),
                    said => said.to_owned(),
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

    /// Adds the instance's name to what others are told; that it is not written harms nobody.
    pub(super) fn name(&self, instance: &str) {
        let said = format!("pid {}, instance {instance}", process::id());
        if let Err(error) = self.write(&said) {
            tracing::debug!(%error, "the ledger's lock file does not show the instance");
        }
    }

    fn write(&self, said: &str) -> std::io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(said.as_bytes())
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
