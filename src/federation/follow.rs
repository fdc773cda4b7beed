//! Follows one bundle endpoint: as often as its bundle says, with a back-off after failures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::FederationConfig;
use super::document::Document;
use super::endpoint::{FetchError, fetch};
use super::kept::Kept;
use super::metrics::{Metrics, Outcome};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::log_limit::OnChange;
use crate::trust::PublishedBundles;

/// Where a bundle does not say how often (SPIFFE Trust Domain and Bundle §4.1.2 leaves it to the client).
const REFRESH: Duration = Duration::from_secs(300);
/// However often a bundle says.
const FASTEST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(3600);
/// After failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Fetches the bundle of one other trust domain, and publishes it apart from this server's own.
#[derive(Debug)]
pub struct Follower {
    config: FederationConfig,
    kept: Kept,
    bundles: Arc<PublishedBundles>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    last: Option<Document>,
    problem: OnChange,
    backoff: Backoff,
}

impl Follower {
    /// The last bundle is kept in a file of `instance` in `directory`.
    pub fn new(
        config: FederationConfig,
        (directory, instance): (&Path, &str),
        bundles: Arc<PublishedBundles>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        metrics.begin(config.name());
        Self {
            kept: Kept::new(directory, instance, config.trust_domain()),
            config,
            bundles,
            clock,
            metrics,
            last: None,
            problem: OnChange::default(),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.read_kept().await;
        loop {
            let pause = tokio::select! {
                () = stop.cancelled() => return,
                pause = self.refresh() => pause,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn read_kept(&mut self) {
        let trust_domain = self.config.trust_domain();
        match self.kept.read(trust_domain).await {
            Ok(None) => {}
            Ok(Some(document)) => self.publish(document),
            Err(error) => tracing::warn!(
                federation = self.config.name(), %trust_domain, file = %self.kept.path().display(), %error,
                "the last bundle of another trust domain cannot be read"
            ),
        }
    }

    /// Returns the pause before the next fetch.
    async fn refresh(&mut self) -> Duration {
        let name = self.config.name().to_owned();
        match self.fetch().await {
            Ok(hint) => {
                self.metrics.count(&name, Outcome::fetched);
                self.metrics.fetched(&name, self.clock.now());
                self.problem.clear();
                self.backoff.reset();
                hint.unwrap_or(REFRESH).clamp(FASTEST, SLOWEST)
            }
            Err(error) => {
                let outcome = match error {
                    FetchError::Refused { .. } => Outcome::refused,
                    _ => Outcome::unreachable,
                };
                self.metrics.count(&name, outcome);
                let error = error.to_string();
                if self.problem.is_new(&error) {
                    let trust_domain = self.config.trust_domain();
                    let roots = self.last.as_ref().map_or(0, |last| last.anchors().len());
                    tracing::warn!(
                        federation = name, %trust_domain, roots, error,
                        "the bundle of another trust domain is not refreshed"
                    );
                }
                self.backoff.next_delay()
            }
        }
    }

    /// Takes what the endpoint has; returns how often it wants to be asked.
    async fn fetch(&mut self) -> Result<Option<Duration>, FetchError> {
        let bytes = fetch(&self.config, self.last.as_ref()).await?;
        let refused = |why| FetchError::Refused {
            url: self.config.url().to_string(),
            why,
        };
        let document = Document::read(self.config.trust_domain(), &bytes).map_err(refused)?;
        let is_new = match &self.last {
            None => true,
            Some(last) => document.follows(last).map_err(refused)?,
        };
        let hint = document.refresh_hint;
        if is_new {
            if let Err(error) = self.kept.write(bytes).await {
                tracing::warn!(
                    federation = self.config.name(), file = %self.kept.path().display(), %error,
                    "the bundle of another trust domain is not kept for the next start"
                );
            }
            self.publish(document);
        }
        Ok(hint)
    }

    fn publish(&mut self, document: Document) {
        let (name, trust_domain) = (self.config.name(), self.config.trust_domain());
        // A number that grows, where the bundle has none.
        let version = document
            .sequence
            .unwrap_or_else(|| self.clock.now().secs().unsigned_abs());
        match document.bundle(trust_domain, version) {
            Ok(bundle) => {
                let anchors = document.anchors().len();
                tracing::info!(
                    federation = name, %trust_domain, sequence = document.sequence, anchors,
                    "the bundle of another trust domain is in use"
                );
                self.metrics.in_use(name, anchors);
                self.bundles.set_foreign(bundle);
                self.last = Some(document);
            }
            // Documents are checked as bundles.
            Err(error) => tracing::error!(federation = name, %trust_domain, %error, "no bundle"),
        }
    }
}
