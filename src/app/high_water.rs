//! The mark outside of the ledger: how far the ledger had come when this server last looked. It may lag
//! behind the ledger and never leads it, because what it says was durable before it was written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::token_mark::{TokenMark, TokenMarkError};
use crate::config::Config;
use crate::file_access::denied;
use crate::ledger::{Actor, Change, HighWater, Ledger, LedgerError};
use crate::log_limit::OnChange;
use crate::private_file;

/// The shortest time between two writings.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a start waits for the token that has a mark.
const TOKEN_START: Duration = Duration::from_secs(5);
/// How long a stop waits for the token.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// A mark of so many bundles is longer than any.
const MAX_BYTES: u64 = 1024 * 1024;

/// Goes on with a ledger that is behind the mark.
#[derive(Debug, Clone)]
pub struct AcceptOlder {
    pub by: Actor,
    pub reason: String,
}

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    instance: String,
    ledger: PathBuf,
    reached: HighWater,
}

/// One server's mark, in a file of a directory of its own.
#[derive(Debug, Clone)]
pub struct MarkFile {
    instance: String,
    ledger: PathBuf,
    path: PathBuf,
}

impl MarkFile {
    pub fn new(config: &Config) -> Self {
        let instance = config.instance().name().to_owned();
        let ledger = config.ledger();
        // An instance's name may hold what a file's may not; the digest tells such names apart.
        let mut name = private_file::name_for(&instance);
        name.push_str(".json");
        Self {
            instance,
            ledger: ledger.store().name().into(),
            path: ledger.high_water_directory().join(name),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None` before the first one is written.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when it cannot be read.
    pub fn read(&self) -> Result<Option<HighWater>, LedgerError> {
        let failed = |problem: String| LedgerError::Unavailable {
            reason: format!(
                "the mark that says how far the ledger has come cannot be read: {}: {problem}",
                self.path.display()
            ),
        };
        let text = match fs::metadata(&self.path).map(|file| file.len()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(length) if length > MAX_BYTES => return Err(failed("it is too long".to_owned())),
            _ => fs::read_to_string(&self.path)
                .map_err(|error| failed(format!("{error}{}", denied(&self.path, &error))))?,
        };
        let mark: Mark = serde_json::from_str(&text).map_err(|error| {
            failed(format!(
                "{error}; restore it, or remove it: the ledger is then taken for the newest"
            ))
        })?;
        Ok(Some(mark.reached))
    }

    /// Replaces the mark; durable when it returns.
    fn write(&self, reached: &HighWater) -> io::Result<()> {
        let mark = Mark {
            instance: self.instance.clone(),
            ledger: self.ledger.clone(),
            reached: reached.clone(),
        };
        private_file::replace(&self.path, &serde_json::to_vec(&mark)?)
    }
}

/// Refuses a ledger that is behind one of the marks, unless it is accepted, which is recorded.
///
/// # Errors
/// [`LedgerError::Older`], and those of reading marks and ledger.
pub(super) async fn require_newest(
    ledger: &dyn Ledger,
    mark: &MarkFile,
    token: Option<&mut TokenMark>,
    accept: Option<&AcceptOlder>,
) -> Result<(), LedgerError> {
    let path = mark.path.display().to_string();
    let mut marks = Vec::new();
    match mark.read()? {
        Some(reached) => marks.push((path, reached)),
        None => tracing::info!(mark = %path, "no mark yet says how far the ledger has come"),
    }
    let mut compared = None;
    if let Some(token) = token {
        token.settled(TOKEN_START).await;
        match token.read().await {
            Ok(found) => {
                marks.extend(found.map(|reached| (token.place(), reached)));
                compared = Some(token);
            }
            Err(TokenMarkError::Ledger(error)) => return Err(error),
            Err(error @ TokenMarkError::Unreadable { .. }) => {
                let reason = format!("the mark in {} cannot be read: {error}", token.place());
                return Err(LedgerError::Unavailable { reason });
            }
            // A token that is missing stops no start: it is compared before it is written to.
            Err(error @ TokenMarkError::Token(_)) => tracing::warn!(
                "how far the ledger has come is compared with the file alone, the token has not answered: {error}"
            ),
        }
    }
    let mut lost: Option<HighWater> = None;
    for (place, reached) in marks {
        let Some(difference) = ledger.behind(&reached).await? else {
            continue;
        };
        let Some(AcceptOlder { reason, .. }) = accept else {
            return Err(LedgerError::Older {
                path: mark.ledger.clone(),
                mark: place,
                reached: reached.to_string(),
                difference,
            });
        };
        tracing::warn!(
            mark = %place, %reached, difference, reason,
            "THE LEDGER IS NOT THE NEWEST and is accepted: certificates that it lacks exist and are in no record"
        );
        lost = Some(reached.furthest(lost));
    }
    if let (Some(lost), Some(AcceptOlder { by, reason })) = (lost, accept) {
        let change = Change::AcceptOlderLedger {
            instance: mark.instance.clone(),
            mark: lost,
            reason: reason.clone(),
        };
        ledger.apply(change, by).await?;
    }
    if let Some(token) = compared {
        token.accept().await?;
    }
    Ok(())
}

/// Keeps the marks up to date.
#[derive(Debug)]
pub(super) struct MarkWriter {
    ledger: Arc<dyn Ledger>,
    mark: MarkFile,
    token: Option<TokenMark>,
    written: Option<HighWater>,
    failed: OnChange,
    token_kept: OnChange,
    /// Tells that a token's mark, which was not there at the start, is ahead of the ledger.
    older: watch::Sender<Option<LedgerError>>,
}

impl MarkWriter {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        mark: MarkFile,
        token: Option<TokenMark>,
        older: watch::Sender<Option<LedgerError>>,
    ) -> Self {
        Self {
            ledger,
            mark,
            token,
            written: None,
            failed: OnChange::default(),
            token_kept: OnChange::default(),
            older,
        }
    }

    /// Writes until `stop`, when nothing more is recorded, and once more then.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => self.write(false).await,
            }
        }
        self.write(true).await;
    }

    async fn write(&mut self, last: bool) {
        // A ledger that does not answer is reported elsewhere.
        let Ok(reached) = self.ledger.high_water().await else {
            return;
        };
        self.write_file(&reached).await;
        let limit = if last { LAST_WRITE } else { Duration::MAX };
        let _ = tokio::time::timeout(limit, self.write_token(&reached, last)).await;
    }

    async fn write_file(&mut self, reached: &HighWater) {
        if self.written.as_ref() == Some(reached) {
            return;
        }
        let (mark, new) = (self.mark.clone(), reached.clone());
        let written = tokio::task::spawn_blocking(move || mark.write(&new)).await;
        match written.map_err(io::Error::other).and_then(|done| done) {
            Ok(()) => {
                self.written = Some(reached.clone());
                self.failed.clear();
            }
            Err(error) => {
                let path = self.mark.path.display();
                let why = format!("{path}: {error}{}", denied(&self.mark.path, &error));
                if self.failed.is_new(&why) {
                    tracing::warn!(
                        "the mark that says how far the ledger has come is not written: {why}"
                    );
                }
            }
        }
    }

    async fn write_token(&mut self, reached: &HighWater, last: bool) {
        let Some(token) = &mut self.token else {
            return;
        };
        let file = self.mark.path.display();
        match kept(token, &*self.ledger, reached, last).await {
            Ok(Kept::Not) => {}
            Ok(Kept::InToken) => {
                if self.token_kept.is_new("kept") {
                    let place = token.place();
                    tracing::info!("how far the ledger has come is kept in {place} and in {file}");
                }
            }
            Ok(Kept::IsAhead(reached, difference)) => {
                let older = LedgerError::Older {
                    path: self.mark.ledger.clone(),
                    mark: token.place(),
                    reached: reached.to_string(),
                    difference,
                };
                self.older.send_replace(Some(older));
                self.token = None;
            }
            Err(error) => {
                let why = error.to_string();
                if self.token_kept.is_new(&why) {
                    tracing::warn!(
                        "how far the ledger has come is kept in {file} only, and not in the token: {why}"
                    );
                }
            }
        }
    }
}

enum Kept {
    InToken,
    /// The ledger has no records yet.
    Not,
    /// The token's mark is ahead of the ledger.
    IsAhead(HighWater, String),
}

async fn kept(
    token: &mut TokenMark,
    ledger: &dyn Ledger,
    reached: &HighWater,
    last: bool,
) -> Result<Kept, TokenMarkError> {
    if !token.is_compared().await? {
        if let Some(mark) = token.read().await?
            && let Some(difference) = ledger.behind(&mark).await?
        {
            return Ok(Kept::IsAhead(mark, difference));
        }
        token.accept().await?;
    }
    Ok(match token.write(reached, last).await? {
        true => Kept::InToken,
        false => Kept::Not,
    })
}
