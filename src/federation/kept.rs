//! The last document in a file: after a start it is published before the endpoint answers, and a sequence
//! that goes back is known.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::document::{Document, Refused};
use crate::private_file;
use crate::x509::TrustDomain;

#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

/// Why a file that exists is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Content(#[from] Refused),
    #[error("its reader stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

impl Kept {
    /// A file of this server's in `directory`.
    pub(super) fn new(directory: &Path, instance: &str, trust_domain: &TrustDomain) -> Self {
        let [instance, domain] = [instance, trust_domain.as_str()].map(private_file::name_for);
        Self(directory.join(format!("federation.{instance}.{domain}.json")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) async fn read(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Document>, KeptError> {
        match tokio::fs::read(&self.0).await {
            Ok(bytes) => Ok(Some(Document::read(trust_domain, &bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn write(&self, bytes: Vec<u8>) -> Result<(), KeptError> {
        let path = self.0.clone();
        let written = tokio::task::spawn_blocking(move || private_file::replace(&path, &bytes));
        Ok(written.await??)
    }
}
