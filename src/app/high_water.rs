//! The mark outside of the ledger: how far the ledger had come when this server last looked. It may lag
//! behind the ledger and never leads it, because what it says was durable before it was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::digest::{hex, sha256};
use crate::file_access::{denied, give_to_owner_of};
use crate::ledger::{Actor, Change, HighWater, Ledger, LedgerError};
use crate::log_limit::OnChange;

/// The shortest time between two writings.
const INTERVAL: Duration = Duration::from_secs(1);
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
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let mut name: String = instance.chars().filter(|c| plain(*c)).take(64).collect();
        if name != instance {
            let digest = hex(&sha256(instance.as_bytes()));
            name.push('.');
            name.extend(digest.chars().take(16));
        }
        name.push_str(".json");
        Self {
            instance,
            ledger: ledger.path().to_owned(),
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
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            if let Some(above) = directory.parent() {
                give_to_owner_of(above, &File::open(directory)?)?;
            }
        }
        let mark = Mark {
            instance: self.instance.clone(),
            ledger: self.ledger.clone(),
            reached: reached.clone(),
        };
        let temporary = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        give_to_owner_of(directory, &file)?;
        file.write_all(&serde_json::to_vec(&mark)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(directory)?.sync_all()
    }
}

/// Refuses a ledger that is behind the mark, unless it is accepted, which is recorded.
///
/// # Errors
/// [`LedgerError::Older`], and those of reading mark and ledger.
pub(super) async fn require_newest(
    ledger: &dyn Ledger,
    mark: &MarkFile,
    accept: Option<&AcceptOlder>,
) -> Result<(), LedgerError> {
    let path = mark.path.display();
    let Some(reached) = mark.read()? else {
        tracing::info!(mark = %path, "no mark yet says how far the ledger has come");
        return Ok(());
    };
    let Some(difference) = ledger.behind(&reached).await? else {
        return Ok(());
    };
    let Some(AcceptOlder { by, reason }) = accept else {
        return Err(LedgerError::Older {
            path: mark.ledger.clone(),
            mark: path.to_string(),
            reached: reached.to_string(),
            difference,
        });
    };
    tracing::warn!(
        mark = %path, %reached, difference, reason,
        "THE LEDGER IS NOT THE NEWEST and is accepted: certificates that it lacks exist and are in no record"
    );
    let change = Change::AcceptOlderLedger {
        instance: mark.instance.clone(),
        mark: reached,
        reason: reason.clone(),
    };
    ledger.apply(change, by).await?;
    Ok(())
}

/// Keeps the mark up to date.
#[derive(Debug)]
pub(super) struct MarkWriter {
    ledger: Arc<dyn Ledger>,
    mark: MarkFile,
    written: Option<HighWater>,
    failed: OnChange,
}

impl MarkWriter {
    pub(super) fn new(ledger: Arc<dyn Ledger>, mark: MarkFile) -> Self {
        Self {
            ledger,
            mark,
            written: None,
            failed: OnChange::default(),
        }
    }

    /// Writes until `stop`, when nothing more is recorded, and once more then.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => self.write().await,
            }
        }
        self.write().await;
    }

    async fn write(&mut self) {
        // A ledger that does not answer is reported elsewhere.
        let Ok(reached) = self.ledger.high_water().await else {
            return;
        };
        if self.written.as_ref() == Some(&reached) {
            return;
        }
        let (mark, new) = (self.mark.clone(), reached.clone());
        let written = tokio::task::spawn_blocking(move || mark.write(&new)).await;
        match written.map_err(io::Error::other).and_then(|done| done) {
            Ok(()) => {
                self.written = Some(reached);
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
}
