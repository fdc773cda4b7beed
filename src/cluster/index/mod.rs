//! The pods and service accounts of one cluster, followed by watches.

mod objects;
mod records;
mod replay;
mod synced_table;
mod tables;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use records::{AccountRecord, PodRecord};
pub use replay::replay;
use synced_table::SyncedTable;
use tables::{Accounts, Pods};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::ClusterConfig;
use super::connection::Connection;

#[derive(Debug)]
pub struct Index {
    pods: Arc<SyncedTable<Pods>>,
    accounts: Arc<SyncedTable<Accounts>>,
    changed: channel::Sender<u64>,
}

impl Index {
    pub(super) fn start(
        config: &ClusterConfig,
        connection: &Arc<Connection>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let pods = Arc::<SyncedTable<Pods>>::default();
        let accounts = Arc::<SyncedTable<Accounts>>::default();
        let changed = channel::Sender::new(0);
        // Two watches start within the limit, so that one may be late.
        let watch_time = config.callers().watch_silence() / 2;
        tasks.spawn(Arc::clone(&pods).run(
            Arc::clone(connection),
            watch_time,
            changed.clone(),
            stop.clone(),
        ));
        tasks.spawn(Arc::clone(&accounts).run(
            Arc::clone(connection),
            watch_time,
            changed.clone(),
            stop.clone(),
        ));
        Self {
            pods,
            accounts,
            changed,
        }
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<PodRecord>> {
        let pods = self.pods.table.read();
        let pods = pods.unwrap_or_else(PoisonError::into_inner);
        pods.find(namespace, name).cloned()
    }

    /// The pods that are scheduled to a node.
    pub fn on_node(&self, node: &str) -> Vec<Arc<PodRecord>> {
        let pods = self.pods.table.read();
        let pods = pods.unwrap_or_else(PoisonError::into_inner);
        pods.on_node(node).to_vec()
    }

    /// Calls `found` for each pod while the table is locked: it must be fast.
    pub fn for_each_pod(&self, found: impl FnMut(&PodRecord)) {
        let pods = self.pods.table.read();
        let pods = pods.unwrap_or_else(PoisonError::into_inner);
        pods.all().map(AsRef::as_ref).for_each(found);
    }

    pub fn account(&self, namespace: &str, name: &str) -> Option<AccountRecord> {
        let accounts = self.accounts.table.read();
        let accounts = accounts.unwrap_or_else(PoisonError::into_inner);
        accounts.find(namespace, name).cloned()
    }

    /// The time since the last contact about pods or about accounts, whichever is longer; `None` until
    /// both were listed.
    pub fn time_since_contact(&self) -> Option<Duration> {
        Some(
            self.pods
                .time_since_contact()?
                .max(self.accounts.time_since_contact()?),
        )
    }

    /// The numbers of pods and of accounts.
    pub fn counts(&self) -> (usize, usize) {
        (self.pods.len(), self.accounts.len())
    }

    /// Notified of each contact with the API server.
    pub fn watch(&self) -> channel::Receiver<u64> {
        self.changed.subscribe()
    }
}
