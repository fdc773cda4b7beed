//! Follows a collection: a list, then one short watch after the other, for ever.
//!
//! A cluster where nothing happens must be told from one that no longer answers, for which
//! kube-runtime's watcher tells too little. API servers send no bookmark while they have nothing newer
//! than what the watch started with. So each watch is short, and its start counts as contact as well:
//! what has happened since the last one comes first in it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::core::WatchEvent as RawEvent;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::api::{ApiClient, ApiError, Collection, Pages, Watch};
use super::connection::Connection;
use crate::backoff::Backoff;
use crate::log_limit::OnChange;

/// The first and the longest wait after failures.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// After so many failures in a row the objects are listed again: what cannot be read in a watch may
/// not be in a list.
const RELIST: u32 = 3;
/// A watch that sends nothing for so long after its start has nothing to send yet.
const SETTLE: Duration = Duration::from_secs(1);
/// How much longer than its time a watch may last before it counts as dead.
const GRACE: Duration = Duration::from_secs(5);
/// How long one watch of a controller lasts.
pub const WATCH_TIME: Duration = Duration::from_secs(60);

/// An object with a resourceVersion.
pub trait Versioned {
    fn resource_version(&self) -> Option<&str>;
}

impl<K: kube::Resource> Versioned for K {
    fn resource_version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }
}

/// Where the objects are. Located again before each list, because a server may have been upgraded.
pub trait Source: Send {
    fn locate(
        &self,
        client: &ApiClient,
    ) -> impl Future<Output = Result<Collection, ApiError>> + Send;
}

impl Source for Collection {
    async fn locate(&self, _: &ApiClient) -> Result<Collection, ApiError> {
        Ok(self.clone())
    }
}

/// What a follower reports of a collection.
#[derive(Debug)]
pub enum WatchEvent<T> {
    /// Every object follows.
    ListStarted,
    Listed(T),
    /// Every object was listed; an object that was not is gone. The list started at that time.
    ListComplete(Instant),
    /// An object is new or has changed.
    Changed(T),
    /// An object is gone; this is its last state.
    Deleted(T),
    /// Everything that happened until then has been reported.
    UpToDate(Instant),
    /// The collection cannot be listed or watched now. The follower retries.
    Failed(ApiError),
}

impl<T> WatchEvent<T> {
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> WatchEvent<U> {
        match self {
            Self::ListStarted => WatchEvent::ListStarted,
            Self::Listed(object) => WatchEvent::Listed(map(object)),
            Self::ListComplete(at) => WatchEvent::ListComplete(at),
            Self::Changed(object) => WatchEvent::Changed(map(object)),
            Self::Deleted(object) => WatchEvent::Deleted(map(object)),
            Self::UpToDate(at) => WatchEvent::UpToDate(at),
            Self::Failed(error) => WatchEvent::Failed(error),
        }
    }
}

/// Follows one collection of one cluster.
pub struct Follower<T, S = Collection> {
    connection: Arc<Connection>,
    source: S,
    /// Names the collection in the log.
    what: String,
    watch_time: Duration,
    phase: Phase<T>,
    /// Where the next watch continues; `None` when a list must come first.
    position: Option<(Collection, String)>,
    backoff: Backoff,
    wait: Option<Duration>,
    failures: u32,
    logged: OnChange,
}

enum Phase<T> {
    Idle,
    Listing {
        client: ApiClient,
        pages: Box<Pages<T>>,
        started: Instant,
    },
    Watching {
        watch: Watch<T>,
        started: Instant,
        /// It has sent something, or nothing for a while.
        settled: bool,
    },
}

/// Why a list or a watch is over.
enum Ended {
    /// Its time is up; the next watch continues there.
    Finished,
    /// 410: the API server no longer knows the position.
    Expired,
    Failed(ApiError),
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        match error.code() {
            Some(410) => Self::Expired,
            _ => Self::Failed(error),
        }
    }
}

impl<T, S> Follower<T, S>
where
    T: DeserializeOwned + Versioned + Send,
    S: Source,
{
    /// Each watch lasts `watch_time`, within 5 to 240 seconds.
    pub fn new(
        connection: &Arc<Connection>,
        source: S,
        what: impl Into<String>,
        watch_time: Duration,
    ) -> Self {
        Self {
            connection: Arc::clone(connection),
            source,
            what: what.into(),
            watch_time: watch_time.clamp(Duration::from_secs(5), Duration::from_secs(240)),
            phase: Phase::Idle,
            position: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            wait: None,
            failures: 0,
            logged: OnChange::default(),
        }
    }

    /// The next event. Not cancel safe: a call that is dropped may lose an event.
    pub async fn next(&mut self) -> WatchEvent<T> {
        loop {
            if let Some(wait) = self.wait.take() {
                sleep(wait).await;
            }
            let ended = match self.step().await {
                Ok(Some(event)) => return event,
                Ok(None) => continue,
                Err(ended) => ended,
            };
            if let Some(error) = self.end(ended) {
                return WatchEvent::Failed(error);
            }
        }
    }

    async fn step(&mut self) -> Result<Option<WatchEvent<T>>, Ended> {
        match &mut self.phase {
            Phase::Idle => self.open().await,
            Phase::Listing {
                client,
                pages,
                started,
            } => {
                if let Some(object) = pages.next(client).await? {
                    return Ok(Some(WatchEvent::Listed(object)));
                }
                let started = *started;
                self.position = Some(pages.position()?);
                self.phase = Phase::Idle;
                Ok(Some(WatchEvent::ListComplete(started)))
            }
            Phase::Watching { .. } => self.watch().await,
        }
    }

    /// Starts a list, or a watch where the last one ended.
    async fn open(&mut self) -> Result<Option<WatchEvent<T>>, Ended> {
        let client = self.connection.client().await.map_err(ApiError::from)?;
        let started = Instant::now();
        let Some((collection, version)) = &self.position else {
            let collection = self.source.locate(&client).await?;
            self.phase = Phase::Listing {
                client,
                pages: Box::new(Pages::new(collection)),
                started,
            };
            return Ok(Some(WatchEvent::ListStarted));
        };
        let seconds = u32::try_from(self.watch_time.as_secs()).unwrap_or(u32::MAX);
        let watch = timeout(GRACE, client.watch(collection, version, seconds)).await;
        self.phase = Phase::Watching {
            watch: watch.map_err(|_| ApiError::Timeout(GRACE))??,
            started,
            settled: false,
        };
        Ok(None)
    }

    async fn watch(&mut self) -> Result<Option<WatchEvent<T>>, Ended> {
        let Phase::Watching {
            watch,
            started,
            settled,
        } = &mut self.phase
        else {
            return Ok(None);
        };
        let most = match settled {
            true => self.watch_time + GRACE,
            false => SETTLE,
        };
        let Ok(event) = timeout(most, watch.next()).await else {
            if std::mem::replace(settled, true) {
                return Err(ApiError::Timeout(most).into());
            }
            let started = *started;
            self.recovered();
            return Ok(Some(WatchEvent::UpToDate(started)));
        };
        let event = event?.ok_or(Ended::Finished)?;
        let (event, version) = match event {
            RawEvent::Added(object) | RawEvent::Modified(object) => {
                let version = object.resource_version().map(str::to_owned);
                (WatchEvent::Changed(object), version)
            }
            RawEvent::Deleted(object) => {
                let version = object.resource_version().map(str::to_owned);
                (WatchEvent::Deleted(object), version)
            }
            RawEvent::Bookmark(mark) => {
                let version = mark.metadata.resource_version;
                (WatchEvent::UpToDate(Instant::now()), Some(version))
            }
            RawEvent::Error(status) => return Err(ApiError::Status(status).into()),
        };
        *settled = true;
        if let (Some((_, position)), Some(version)) = (&mut self.position, version) {
            *position = version;
        }
        self.recovered();
        Ok(Some(event))
    }

    /// Only a watch that delivers or lasts is a recovery. Were it a list that succeeds, an API server
    /// that allows lists and refuses watches would be listed without a pause.
    fn recovered(&mut self) {
        self.backoff.reset();
        self.logged.clear();
        if std::mem::take(&mut self.failures) > 0 {
            let (cluster, what) = (self.connection.cluster(), &self.what);
            tracing::info!(cluster, what, "the watch is up to date again");
        }
    }

    fn end(&mut self, ended: Ended) -> Option<ApiError> {
        let lasted = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Watching { started, .. } => started.elapsed() >= SETTLE,
            Phase::Idle | Phase::Listing { .. } => false,
        };
        let (cluster, what) = (self.connection.cluster(), &self.what);
        let error = match ended {
            Ended::Finished if lasted => return None,
            // Without a wait, watches that end at once would be a busy loop.
            Ended::Finished => None,
            Ended::Expired => {
                tracing::info!(
                    cluster,
                    what,
                    "the watch's position has expired: listing again"
                );
                self.position = None;
                None
            }
            Ended::Failed(error) => {
                self.failures += 1;
                let why = error.to_string();
                match self.logged.is_new(&why) {
                    true => tracing::warn!(cluster, what, why, "cannot be watched; trying again"),
                    false => tracing::debug!(cluster, what, why, "still cannot be watched"),
                }
                // 404: the API server may serve another version of the kind.
                if self.failures.is_multiple_of(RELIST) || error.code() == Some(404) {
                    self.position = None;
                }
                Some(error)
            }
        };
        self.wait = Some(self.backoff.next_delay());
        error
    }
}
