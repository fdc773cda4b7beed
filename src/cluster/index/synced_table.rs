//! A table that follows its objects in a cluster.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tables::Table;
use crate::cluster::api::{ApiError, Collection};
use crate::cluster::connection::Connection;
use crate::cluster::follower::{Follower, WatchEvent};

/// How long nothing is listed after more objects than may be stored.
const PAUSE: Duration = Duration::from_secs(60);

/// A table, and when the API server was last in contact about it.
#[derive(Debug)]
pub(super) struct SyncedTable<T> {
    pub(super) table: RwLock<T>,
    /// `None` until the first list is complete.
    last_contact: Mutex<Option<Instant>>,
}

impl<T: Table> SyncedTable<T> {
    /// The time since the last contact; `None` until the first list is complete.
    pub(super) fn time_since_contact(&self) -> Option<Duration> {
        let last = *self
            .last_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.map(|at| at.elapsed())
    }

    pub(super) fn len(&self) -> usize {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Follows the table's objects until `stop`. `changed` counts the contacts.
    pub(super) async fn run(
        self: Arc<Self>,
        connection: Arc<Connection>,
        watch_time: Duration,
        changed: watch::Sender<u64>,
        stop: CancellationToken,
    ) {
        let mut follower = Self::follower(&connection, watch_time);
        let mut listed = T::default();
        let follow = async {
            loop {
                let at = match follower.next().await {
                    WatchEvent::ListStarted => {
                        listed = T::default();
                        continue;
                    }
                    WatchEvent::Listed(object) => {
                        listed.insert(object);
                        if listed.weight() > T::MAX_WEIGHT {
                            let objects = std::mem::take(&mut listed).len();
                            follower = self.start_over(&connection, objects, watch_time).await;
                        }
                        continue;
                    }
                    WatchEvent::ListComplete(started) => {
                        let (cluster, what) = (connection.cluster(), T::KIND);
                        tracing::info!(cluster, what, objects = listed.len(), "listed");
                        let listed = std::mem::take(&mut listed);
                        // The old table is dropped outside of the lock.
                        drop(self.change(|table| std::mem::replace(table, listed)));
                        started
                    }
                    WatchEvent::Changed(object) => {
                        let (weight, objects) = self.change(|table| {
                            table.insert(object);
                            (table.weight(), table.len())
                        });
                        if weight > T::MAX_WEIGHT {
                            follower = self.start_over(&connection, objects, watch_time).await;
                            continue;
                        }
                        Instant::now()
                    }
                    WatchEvent::Deleted(object) => {
                        self.change(|table| table.remove(&object));
                        Instant::now()
                    }
                    WatchEvent::UpToDate(at) => at,
                    WatchEvent::Failed(_) => continue,
                };
                *self
                    .last_contact
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(at);
                changed.send_modify(|count| *count += 1);
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn follower(connection: &Arc<Connection>, watch_time: Duration) -> Follower<T::Object> {
        Follower::new(connection, Collection::new(T::PATH), T::KIND, watch_time)
    }

    /// The objects are more than may be stored: stores none, and lists again after a pause.
    async fn start_over(
        &self,
        connection: &Arc<Connection>,
        objects: usize,
        watch_time: Duration,
    ) -> Follower<T::Object> {
        drop(self.change(std::mem::take));
        *self
            .last_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let error = ApiError::TooMany(objects);
        let (cluster, what) = (connection.cluster(), T::KIND);
        tracing::warn!(cluster, what, why = %error, "cannot be watched; trying again in a minute");
        if let Ok(client) = connection.client().await {
            client.distrust(&error);
        }
        tokio::time::sleep(PAUSE).await;
        Self::follower(connection, watch_time)
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
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
