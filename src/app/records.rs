//! Follows the ledger's records: what a command changes beside the running server is in force
//! here a moment later, without a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::issuance::Authorities;
use crate::ledger::{Actor, Change, LedgerError};
use crate::trust::Bundles;

/// How often the revision is asked for: one row, in memory.
const INTERVAL: Duration = Duration::from_millis(100);
/// How soon a key that was not to be had from its token is asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often foreign anchors are looked through for those that have expired.
const EXPIRY: Duration = Duration::from_secs(5);

/// Keeps authorities and bundles in step with the ledger.
#[derive(Debug)]
pub(super) struct Records {
    core: Core,
    authorities: Arc<Authorities>,
    bundles: Arc<Bundles>,
    /// The revision that is in force.
    seen: Option<u64>,
    /// When it is tried again, where a key was not to be had.
    again: Option<Instant>,
}

impl Records {
    pub(super) fn new(core: Core, authorities: Arc<Authorities>, bundles: Arc<Bundles>) -> Self {
        Self {
            core,
            authorities,
            bundles,
            seen: None,
            again: None,
        }
    }

    /// Puts the newest records in force, if there are newer ones or if the last were not complete.
    pub(super) async fn look(&mut self) -> Result<(), LedgerError> {
        let revision = self.core.ledger.revision().await?;
        let is_due = self.again.is_some_and(|at| Instant::now() >= at);
        if self.seen == Some(revision) && !is_due {
            return Ok(());
        }
        let records = self.core.ledger.snapshot().await?;
        self.bundles.refresh(&records);
        let complete = self.authorities.refresh(&records).await;
        self.seen = Some(records.revision);
        self.again = (!complete).then(|| Instant::now() + AGAIN);
        Ok(())
    }

    /// Follows until `stop`.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut expiry = tokio::time::interval(EXPIRY);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = expiry.tick() => self.expire().await,
                _ = interval.tick() => match self.look().await {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "records are not to be had: the last ones stay in force");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    async fn expire(&self) {
        let change = Change::RefreshBundles {
            now: self.core.clock.now(),
        };
        let by = Actor {
            name: "rootbridge".to_owned(),
            via: "server".to_owned(),
        };
        if let Err(error) = self.core.ledger.apply(change, &by).await {
            tracing::debug!(%error, "expired anchors were not looked for");
        }
    }
}
