//! Follows the ledger: a change by a command takes effect in the running server without a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::issuance::Authorities;
use crate::ledger::{Actor, Change, LedgerError};
use crate::trust::Bundles;

/// The pause before a key that its token did not provide is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The interval of removing expired foreign anchors.
const EXPIRY: Duration = Duration::from_secs(5);
/// The interval of looking for keys in the tokens that should have them too.
const COPIES: Duration = Duration::from_secs(2);

/// Updates authorities and bundles from the ledger.
#[derive(Debug)]
pub(super) struct Records {
    core: Core,
    authorities: Arc<Authorities>,
    bundles: Arc<Bundles>,
    /// The active revision.
    seen: Option<u64>,
    /// When to retry, after a key was unavailable.
    retry_at: Option<Instant>,
}

impl Records {
    pub(super) fn new(core: Core, authorities: Arc<Authorities>, bundles: Arc<Bundles>) -> Self {
        Self {
            core,
            authorities,
            bundles,
            seen: None,
            retry_at: None,
        }
    }

    /// Applies the newest records, if there are newer ones or if a key was unavailable.
    async fn refresh(&mut self) -> Result<(), LedgerError> {
        let revision = self.core.ledger.revision().await?;
        let is_due = self.retry_at.is_some_and(|at| Instant::now() >= at);
        if self.seen == Some(revision) && !is_due {
            return Ok(());
        }
        let records = self.core.ledger.snapshot().await?;
        self.bundles.refresh(&records);
        let complete = self.authorities.refresh(&records).await;
        self.seen = Some(records.revision);
        self.retry_at = (!complete).then(|| Instant::now() + RETRY);
        Ok(())
    }

    /// Follows until `stop`.
    pub(super) async fn follow(self, stop: CancellationToken) {
        let authorities = Arc::clone(&self.authorities);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow_ledger() => {}
            // Apart: a token that does not answer holds up no change of the records.
            () = follow_copies(&authorities) => {}
        }
    }

    async fn follow_ledger(mut self) {
        let mut expiry = tokio::time::interval(EXPIRY);
        let mut failing = false;
        loop {
            match self.refresh().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "the ledger's records are unavailable: the last ones stay active");
                }
                Err(_) => {}
            }
            let ledger = Arc::clone(&self.core.ledger);
            let retry_at = self.retry_at;
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = retry => {}
                _ = expiry.tick() => self.remove_expired().await,
                _ = ledger.wait_for_change() => {}
            }
        }
    }

    async fn remove_expired(&self) {
        let change = Change::RefreshBundles {
            now: self.core.clock.now(),
        };
        let by = Actor::server(None);
        if let Err(error) = self.core.ledger.apply(change, &by).await {
            tracing::debug!(%error, "expired anchors were not removed");
        }
    }
}

async fn follow_copies(authorities: &Authorities) {
    let mut interval = tokio::time::interval(COPIES);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        authorities.complete_keys().await;
    }
}
