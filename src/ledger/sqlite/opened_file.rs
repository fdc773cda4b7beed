//! The database's file as a server has opened it, and whether its path still leads to it.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::LedgerError;
use crate::log_limit::OnChange;

/// What a file is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// A descriptor of the file. It is closed after SQLite's: the end of any descriptor of a file ends all
/// locks that the process has on it.
#[derive(Debug)]
pub(super) struct OpenedFile {
    path: Arc<Path>,
    file: File,
    /// Beside the file itself, where SQLite has it, and not beside a link to it.
    wal_path: PathBuf,
    /// The write-ahead log that the writer's connection uses.
    wal: Mutex<Option<Identity>>,
    logged: Mutex<OnChange>,
}

impl OpenedFile {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut wal_path = path.canonicalize()?.into_os_string();
        wal_path.push("-wal");
        Ok(Self {
            path: path.into(),
            file: File::open(path)?,
            wal_path: wal_path.into(),
            wal: Mutex::new(None),
            logged: Mutex::default(),
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fails while the path leads to another file or to none: what is written would not be found at
    /// the next start. Each change is logged once.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        let mut logged = lock(&self.logged);
        let path = self.path.display();
        let Some(problem) = self.problem() else {
            if logged.is_new("") {
                tracing::info!("the ledger's file {path} is in its place again");
            }
            return Ok(());
        };
        if logged.is_new(&problem) {
            tracing::error!(
                "the ledger's file {path} is not in its place: {problem}. Nothing is recorded or signed \
                 until it is back: move it back with its -wal and -shm files, or stop the server"
            );
        }
        Err(LedgerError::unavailable(format!("{path}: {problem}")))
    }

    fn problem(&self) -> Option<String> {
        let opened = match self.file.metadata() {
            Ok(opened) => opened,
            Err(error) => return Some(format!("it cannot be examined: {error}")),
        };
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Some("it was moved away or removed while the server runs".to_owned());
            }
            Err(error) => return Some(format!("it cannot be examined: {error}")),
            Ok(found) if Identity::from(&found) != Identity::from(&opened) => {
                return Some("another file was put in its place while the server runs".to_owned());
            }
            Ok(_) => {}
        }
        // With a second name it can be opened with a second write-ahead log, which damages it.
        if opened.nlink() != 1 {
            let names = opened.nlink();
            return Some(format!(
                "it has {names} names (hard links): remove the others"
            ));
        }
        let wal = (*lock(&self.wal))?;
        (self.wal_now() != Some(wal)).then(|| {
            "its -wal file was moved, removed or replaced while the server runs; if it is lost, stop the \
             server with SIGTERM, which writes what is missing to the ledger"
                .to_owned()
        })
    }

    /// To be called after a commit.
    pub(super) fn remember_wal(&self) {
        let mut wal = lock(&self.wal);
        if wal.is_none() {
            *wal = self.wal_now();
        }
    }

    /// To be called when the writer's connection ends: the last connection removes the log.
    pub(super) fn forget_wal(&self) {
        *lock(&self.wal) = None;
    }

    fn wal_now(&self) -> Option<Identity> {
        let found = fs::metadata(&self.wal_path).ok()?;
        Some(Identity::from(&found))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
