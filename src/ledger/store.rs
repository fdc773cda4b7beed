//! Which store holds the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::sql::{POSTGRES_MARKED, SQLITE_MARKED, require_finished};
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
            Self::Sqlite(path) => {
                let ledger = Sqlite::open(path, mode, clock).await?;
                let name = self.name();
                let whole = ledger
                    .read(move |conn| {
                        async move { require_finished(conn, SQLITE_MARKED, &name).await }.boxed()
                    })
                    .await;
                if whole.is_err() {
                    ledger.close().await;
                }
                whole?;
                Arc::new(ledger)
            }
            Self::Postgres(settings) => {
                let ledger = Postgres::open(settings.as_ref().clone(), clock).await?;
                self.require_finished(&ledger).await?;
                Arc::new(ledger)
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
                if let Some(ledger) = &opened {
                    self.require_finished(ledger).await?;
                }
                Ok(opened.map(|ledger| Arc::new(ledger) as Arc<dyn Ledger>))
            }
        }
    }

    /// Half a ledger is none.
    async fn require_finished(&self, ledger: &Postgres) -> Result<(), LedgerError> {
        let name = self.name();
        ledger
            .read(|session| {
                async move { require_finished(session, POSTGRES_MARKED, &name).await }.boxed()
            })
            .await
    }
}
