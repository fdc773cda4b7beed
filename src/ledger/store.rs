//! Which store holds the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ledger, LedgerError, OpenMode, Postgres, PostgresConfig, Sqlite};
use crate::clock::Clock;

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerStore {
    /// A file.
    Sqlite(PathBuf),
    /// A database, which any number of servers share.
    Postgres(Box<PostgresConfig>),
}

impl LedgerStore {
    /// Opens it, and makes it if it does not exist.
    ///
    /// # Errors
    /// Those of [`Sqlite::open`] and [`Postgres::open`].
    pub async fn open(
        &self,
        mode: OpenMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Ledger>, LedgerError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(Sqlite::open(path, mode, clock).await?),
            Self::Postgres(settings) => {
                Arc::new(Postgres::open(settings.as_ref().clone(), clock).await?)
            }
        })
    }

    /// The file's path, or the database's URL without parameters.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(settings) => settings.name().to_owned(),
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Opens it for a command beside a server, or not; `None` if there is none yet: what reads a ledger
    /// makes none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_existing(
        &self,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Arc<dyn Ledger>>, LedgerError> {
        match self {
            Self::Sqlite(path) if !path.exists() => Ok(None),
            Self::Sqlite(_) => self.open(OpenMode::Shared, clock).await.map(Some),
            Self::Postgres(settings) => {
                let opened = Postgres::open_existing(settings.as_ref().clone(), clock).await?;
                Ok(opened.map(|ledger| Arc::new(ledger) as Arc<dyn Ledger>))
            }
        }
    }
}
