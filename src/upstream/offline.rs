//! The ceremony with files as an upstream CA: the request is a file in a directory, and the answer is
//! `rootbridge ca import`, which ends the request.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable};
use super::raw::{RawUpstream, absolute, required};
use crate::config_issue::ConfigIssues;

/// `kind = "offline"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfflineConfig {
    directory: PathBuf,
}

impl OfflineConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, _: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let directory = absolute(raw.directory.take(), "directory");
        let directory = directory.and_then(|given| required(given, "directory"));
        let directory = issues.collect(directory);
        issues.into_result(directory.map(|directory| Self { directory }))
    }
}

#[derive(Debug)]
pub(super) struct Offline(OfflineConfig);

impl Offline {
    pub(super) fn new(config: OfflineConfig) -> Self {
        Self(config)
    }

    /// Whoever sees the file sees all of it.
    async fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.directory.join(name);
        let unfinished = self.0.directory.join(format!(".{name}.unfinished"));
        let mut file = tokio::fs::File::create(&unfinished).await?;
        file.write_all(text.as_bytes()).await?;
        file.sync_all().await?;
        tokio::fs::rename(&unfinished, &path).await?;
        Ok(path)
    }

    fn failed(&self, error: &io::Error) -> Unreachable {
        let directory = self.0.directory.display();
        Unreachable::new(format!("cannot write a request to {directory}: {error}"))
    }

    async fn request(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let name = format!("{}.csr", request.id);
        let path = self.write(&name, &request.csr_pem()).await;
        let path = path.map_err(|error| self.failed(&error))?;
        Ok(Answer::pending(path.display().to_string()))
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let path = self.write("upstream-test", "").await;
        let path = path.map_err(|error| self.failed(&error))?;
        let removed = tokio::fs::remove_file(path).await;
        removed.map_err(|error| self.failed(&error))?;
        Ok(vec![format!(
            "requests can be written to {}; their answer is `rootbridge ca import`",
            self.0.directory.display()
        )])
    }
}

impl UpstreamCa for Offline {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.request(request).boxed()
    }

    /// Until an operator imports the answer or cancels the request. The file may be gone: somebody has
    /// taken it to the CA.
    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        std::future::ready(Ok(Answer::pending(reference))).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.found().boxed()
    }
}
