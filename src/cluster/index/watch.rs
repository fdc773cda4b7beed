//! List, then watch, for ever: a table that follows its objects in a cluster.
//!
//! A cluster where nothing happens must be told from one that is not heard any more, for which
//! kube-runtime's watcher tells too little. API servers send no bookmark while they have nothing
//! newer than what the watch began with, so each watch is short, and it counts as well that another
//! one began: what has happened since the last one comes first in it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::objects::Page;
use super::tables::Table;
use crate::cluster::connection::Connection;
use crate::cluster::request::{RequestError, ask};
use crate::error_chain::error_chain;

/// Objects on one page of a list.
const PAGE: u32 = 500;
/// The longest page, in bytes: whole pods are sent, and most of each is thrown away.
const MAX_PAGE: usize = 512 * 1024 * 1024;
/// How long one page may take.
const PAGE_TIME: Duration = Duration::from_secs(30);
/// To the first failure's next try, and the longest of the later ones.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// After so many failures in a row the objects are listed again.
const RELIST: u32 = 3;
/// A watch that began and has told nothing for so long had nothing to tell.
const SETTLE: Duration = Duration::from_secs(1);
/// What a watch has beyond the time that it asked for, until it counts as dead.
const GRACE: Duration = Duration::from_secs(5);

/// A table with its news.
#[derive(Debug)]
pub(super) struct SyncedTable<T> {
    pub(super) table: RwLock<T>,
    /// When the API server last answered about it; `None` until the first list was whole.
    last_contact: Mutex<Option<Instant>>,
}

impl<T: Table> SyncedTable<T> {
    /// How long ago the last contact was; `None` when nothing ever was.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let last_contact = *self
            .last_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last_contact.map(|at| at.elapsed())
    }

    pub(super) fn len(&self) -> usize {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn set_last_contact(&self, at: Instant) {
        *self
            .last_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<T: Default> Default for SyncedTable<T> {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            last_contact: Mutex::new(None),
        }
    }
}

/// Keeps one table.
pub(super) struct Follower<T> {
    pub(super) cluster: String,
    pub(super) connection: Arc<Connection>,
    pub(super) table: Arc<SyncedTable<T>>,
    /// Counts changes, for those who wait for one.
    pub(super) changed: watch::Sender<u64>,
    /// How long one watch lasts.
    pub(super) turn: Duration,
}

/// Why a list or a watch ended.
enum Ended {
    /// As it should; the next begins where it ended.
    Turn,
    /// The place where it was to go on is forgotten there: list again.
    Gone,
    Failed(String),
}

impl<T: Table> Follower<T> {
    /// Follows until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut version: Option<String> = None;
        let mut pause = PAUSE.0;
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let ended = self.turn(&mut version).await;
            // One that ends at once, again and again, is a failure whatever it says.
            let short = begun.elapsed() < Duration::from_secs(1);
            let (cluster, what) = (&self.cluster, T::KIND);
            match ended {
                Ended::Turn if !short => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(%cluster, what, "the watch is up to date again");
                    }
                    pause = PAUSE.0;
                    continue;
                }
                Ended::Turn => {}
                Ended::Gone => {
                    tracing::info!(%cluster, what, "the watch lost its place: listing again");
                    version = None;
                }
                Ended::Failed(why) => {
                    failures += 1;
                    match failures {
                        1 => tracing::warn!(%cluster, what, why, "cannot be watched; trying again"),
                        _ => tracing::debug!(%cluster, what, why, "still not watched"),
                    }
                    // What cannot be read where the watch goes on may not be in a list.
                    if failures.is_multiple_of(RELIST) {
                        version = None;
                    }
                }
            }
            if !short {
                pause = PAUSE.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// A list, when there is no place to go on from, and one watch.
    async fn turn(&self, version: &mut Option<String>) -> Ended {
        let client = match self.connection.client() {
            Ok(client) => client,
            Err(down) => return Ended::Failed(down.why),
        };
        let from = match version.take() {
            Some(from) => from,
            None => match self.list(&client).await {
                Ok(from) => from,
                Err(ended) => return ended,
            },
        };
        self.watch(&client, version.insert(from)).await
    }

    /// Replaces the table by what there is; the version to watch from.
    async fn list(&self, client: &Client) -> Result<String, Ended> {
        let begun = Instant::now();
        let mut fresh = T::default();
        let mut params = ListParams::default().limit(PAGE);
        let version = loop {
            let request = Request::new(T::PATH).list(&params).map_err(failed)?;
            let bytes = ask(client, request, MAX_PAGE, PAGE_TIME).await;
            let bytes = bytes.map_err(|error| match error {
                RequestError::Status(http::StatusCode::GONE) => Ended::Gone,
                other => failed(other),
            })?;
            let page: Page<T::Object> = serde_json::from_slice(&bytes).map_err(|error| {
                failed(format_args!(
                    "the list cannot be read: {:?}",
                    error.classify()
                ))
            })?;
            for object in page.items.into_iter().flatten() {
                fresh.insert(object);
            }
            if page.metadata.more.is_empty() {
                break page.metadata.resource_version;
            }
            params = params.continue_token(&page.metadata.more);
        };
        if version.is_empty() {
            return Err(failed("the list has no version to watch from"));
        }
        let objects = fresh.len();
        let mut old = fresh;
        self.table.change(|table| std::mem::swap(table, &mut old));
        drop(old);
        self.contacted(begun);
        tracing::info!(cluster = %self.cluster, what = T::KIND, objects, "listed");
        Ok(version)
    }

    async fn watch(&self, client: &Client, version: &mut String) -> Ended {
        let seconds = u32::try_from(self.turn.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default().timeout(seconds.clamp(5, 240));
        let request = match Request::new(T::PATH).watch(&params, version) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let begun = Instant::now();
        let opened = timeout(GRACE, client.request_events::<T::Object>(request)).await;
        let events = match opened {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return ended(&error),
            Err(_) => return failed("the watch does not begin"),
        };
        let mut events = pin!(events);
        let mut settled = false;
        loop {
            let most = match settled {
                true => self.turn + GRACE,
                false => SETTLE,
            };
            let next = timeout(most, events.try_next()).await;
            if next.is_err() && !settled {
                settled = true;
                self.contacted(begun);
                continue;
            }
            settled = true;
            let next = match next {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) => return Ended::Turn,
                Ok(Err(error)) => return ended(&error),
                Err(_) => return failed("nothing is received any more"),
            };
            match next {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    T::version(&object).clone_into(version);
                    self.table.change(|table| table.insert(object));
                }
                WatchEvent::Deleted(object) => {
                    T::version(&object).clone_into(version);
                    self.table.change(|table| table.remove(&object));
                }
                WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ended::Gone,
                WatchEvent::Error(status) => {
                    return failed(format_args!("the API server ended it: {}", status.code));
                }
            }
            self.contacted(Instant::now());
        }
    }

    fn contacted(&self, at: Instant) {
        self.table.set_last_contact(at);
        self.changed.send_modify(|count| *count += 1);
    }
}

fn failed(why: impl std::fmt::Display) -> Ended {
    Ended::Failed(why.to_string())
}

fn ended(error: &Error) -> Ended {
    match error {
        Error::Api(status) if status.code == 410 => Ended::Gone,
        Error::Api(status) => failed(format_args!("the API server answered {}", status.code)),
        // The text of the others may hold what was received.
        Error::SerdeError(_) => failed("an event cannot be read"),
        other => failed(error_chain(other)),
    }
}
