//! `rootbridge agent`: publishes the trust bundle of a server that cannot reach the cluster.
//!
//! It follows the server's bundle stream, and the publisher writes what it follows, as in the server.
//! A bundle is on the agent's disk before it is published, and one with a lower sequence than that is
//! never taken. Without the server the last bundle stays, and is repaired where somebody changes it.

mod config;
mod report;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;

pub use config::{AgentConfig, AgentCredential, RawAgent};
pub use report::{AgentReport, AgentTarget, AgentTargetState};
pub use state::StateError;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::log_limit::OnChange;
use crate::rotation::{ConfiguredTarget, Holding};
use crate::trust::{Bundles, Distribution};
use crate::x509::TrustBundle;

/// How often it is looked whether there is something to report.
const LOOK: Duration = Duration::from_secs(1);
/// A report that says nothing new is sent again after that.
const AGAIN: Duration = Duration::from_secs(15);
/// Between connections. The jitter spreads the agents of a server that comes back.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// A connection to a server.
pub trait BundleServer: Send + Sync {
    /// The bundles that it publishes. The stream ends with an error.
    fn follow(
        &self,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<TrustBundle, String>>, String>>;

    /// Returns what an operator has said about the cluster, if anything.
    fn report<'a>(
        &'a self,
        report: &'a AgentReport,
    ) -> BoxFuture<'a, Result<Option<String>, String>>;
}

/// Makes connections; `bundle` is what the server is verified with, once there is one.
pub type Connect = Box<
    dyn Fn(Option<TrustBundle>) -> BoxFuture<'static, Result<Box<dyn BundleServer>, String>>
        + Send
        + Sync,
>;

/// Follows a server.
pub struct Agent {
    pub config: AgentConfig,
    pub connect: Connect,
    pub bundles: Arc<Bundles>,
    pub distribution: Arc<Distribution>,
    pub targets: Vec<ConfiguredTarget>,
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Publishes the bundle that was applied last.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub fn restore(&self) -> Result<(), StateError> {
        let (file, domain) = (self.config.state_file(), self.config.trust_domain());
        if let Some(bundle) = state::load(file, domain)? {
            tracing::info!(
                trust_domain = %domain, sequence = bundle.sequence(), file = %file.display(),
                "the last bundle is published until the server has a newer one"
            );
            self.bundles.publish(bundle);
        }
        Ok(())
    }

    /// Follows until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let (mut backoff, mut said) = (RECONNECT, OnChange::default());
        loop {
            let started = Instant::now();
            let why = match self.session(&mut said).await {
                Ok(never) => match never {},
                Err(why) => why,
            };
            // One that was used for a while was no failed attempt.
            if started.elapsed() > AGAIN {
                backoff.reset();
            }
            if said.is_new(&why) {
                tracing::warn!(
                    server = self.config.server(),
                    why,
                    "the server is not followed: the last bundle stays in the cluster"
                );
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// One connection, until it fails.
    async fn session(&self, said: &mut OnChange) -> Result<std::convert::Infallible, String> {
        let current = self.bundles.current(self.config.trust_domain());
        let known = current.map(|current| current.bundle.clone());
        let server = (self.connect)(known).await?;
        let mut stream = server.follow().await?;
        let mut look = tokio::time::interval(LOOK);
        let mut holding = Holding::default();
        let mut last: Option<(AgentReport, Instant)> = None;
        let mut notes = OnChange::default();
        loop {
            tokio::select! {
                next = stream.next() => match next {
                    Some(bundle) => self.take(bundle?)?,
                    None => return Err("the stream of bundles has ended".to_owned()),
                },
                _ = look.tick() => {
                    let Some(bundle) = self.bundles.current(self.config.trust_domain()) else {
                        continue;
                    };
                    let report = AgentReport::new(
                        &bundle, &self.targets, &self.distribution, &mut holding, self.clock.as_ref(),
                    );
                    let is_due = last.as_ref().is_none_or(|(last, at)| {
                        report.differs(last) || at.elapsed() >= AGAIN
                    });
                    if !is_due {
                        continue;
                    }
                    let note = server.report(&report).await?;
                    if last.is_none() {
                        tracing::info!(server = self.config.server(), "the server is followed");
                        said.clear();
                    }
                    if let Some(note) = note
                        && notes.is_new(&note)
                    {
                        tracing::warn!(note, "the server says of this cluster");
                    }
                    last = Some((report, Instant::now()));
                }
            }
        }
    }

    /// Takes a bundle that is newer than the last.
    fn take(&self, bundle: TrustBundle) -> Result<(), String> {
        let domain = self.config.trust_domain();
        if bundle.trust_domain() != domain {
            return Err(format!(
                "the server sent a bundle of {}",
                bundle.trust_domain()
            ));
        }
        let current = self.bundles.current(domain);
        if let Some(current) = &current {
            let (last, next) = (current.bundle.sequence(), bundle.sequence());
            if next < last {
                return Err(format!(
                    "the server's bundle {next} is older than {last}, which is published here: it is not taken"
                ));
            }
            if next == last && current.bundle.digest() != bundle.digest() {
                return Err(format!(
                    "the server's bundle {next} is another than the one with this number that is published \
                     here: it is not taken"
                ));
            }
            if next == last {
                return Ok(());
            }
        }
        state::store(self.config.state_file(), &bundle).map_err(|error| error.to_string())?;
        tracing::info!(
            trust_domain = %domain, sequence = bundle.sequence(), anchors = bundle.anchors().len(),
            "a bundle of the server is published"
        );
        self.bundles.publish(bundle);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
