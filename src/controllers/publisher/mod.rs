//! Publishes trust bundles to clusters: as ConfigMaps in every selected namespace, and as
//! ClusterTrustBundles.
//!
//! For each cluster one task acquires the Lease. While this server holds it, a session watches the
//! objects and writes those that differ, at a bounded rate, changes before the bulk. It does not poll,
//! and does not write an object that is up to date. An unavailable cluster delays no other.

mod config;
mod conflict;
mod desired;
mod drift;
mod kinds;
mod lease;
mod list_state;
mod object_state;
mod raw;
mod reconciler;
mod report;
mod selector;
mod session;
mod target;
mod truststore;
mod watch;
mod write;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::PublisherConfig;
pub use drift::Drift;
pub use raw::{Format, Kind, Preset, RawPublisher, RawTarget};
pub(in crate::controllers) use target::{LINKERD_KEY, LINKERD_ROOTS};
pub use target::{TargetConfig, check_targets, targets};

use self::lease::{Election, Leader};
use self::session::Session;
use crate::clock::{Clock, UnixTime};
use crate::cluster::{Cluster, Clusters};
use crate::ledger::{BundleRollout, LedgerError, WorkLease};
use crate::trust::{Distribution, PublishedBundles, TargetWriter};

/// The lease on the bundles of a cluster, which a session takes once: what it records after another
/// server has the cluster is refused.
pub type SessionLease = Arc<OnceCell<WorkLease>>;

/// Records that all objects of a target hold a version, and returns since when.
pub type RecordRollout = Box<
    dyn Fn(BundleRollout, SessionLease) -> BoxFuture<'static, Result<UnixTime, LedgerError>>
        + Send
        + Sync,
>;

pub struct Dependencies {
    pub config: PublisherConfig,
    /// The holder's name in the Lease.
    pub instance: String,
    pub bundles: Arc<PublishedBundles>,
    /// Receives the status of every target.
    pub distribution: Arc<Distribution>,
    pub record: RecordRollout,
    /// For timestamps; waits are measured with the monotonic clock.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Publishes `targets` to `clusters` until `stop`.
pub fn start(
    dependencies: Dependencies,
    targets: &[TargetConfig],
    clusters: &Clusters,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let dependencies = Arc::new(dependencies);
    for cluster in clusters.iter() {
        let own = targets
            .iter()
            .filter(|target| target.is_for(cluster.config().name()));
        let own: Vec<_> = own.cloned().map(Arc::new).collect();
        if own.is_empty() {
            continue;
        }
        let election = Election {
            cluster: Arc::clone(cluster),
            config: dependencies.config.clone(),
            identity: dependencies.instance.clone(),
            clock: Arc::clone(&dependencies.clock),
        };
        let unknown = Leader::Unreachable("it has not been tried yet".to_owned());
        let (sender, leader) = tokio::sync::watch::channel(unknown);
        tasks.spawn(election.run(sender, stop.clone()));
        let stop = stop.clone();
        let publish = publish(Arc::clone(cluster), own, Arc::clone(&dependencies), leader);
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = publish => {}
            }
        });
    }
}

type LeaderReceiver = tokio::sync::watch::Receiver<Leader>;

/// Publishes to one cluster whenever this server holds its Lease.
async fn publish(
    cluster: Arc<Cluster>,
    targets: Vec<Arc<target::TargetConfig>>,
    dependencies: Arc<Dependencies>,
    mut leader: LeaderReceiver,
) {
    let name = cluster.config().name();
    loop {
        let current = leader.borrow_and_update().clone();
        let writer = match current {
            Leader::This(until) if std::time::Instant::now() < until => TargetWriter::This,
            Leader::This(_) => TargetWriter::Unreachable {
                why: "the Lease was not renewed in time".to_owned(),
            },
            Leader::Other(holder) => TargetWriter::Other { holder },
            Leader::Unreachable(why) => TargetWriter::Unreachable { why },
        };
        if writer == TargetWriter::This {
            tracing::info!(
                cluster = name,
                "this server publishes trust bundles to the cluster"
            );
            let session = Session::new(Arc::clone(&cluster), &targets, Arc::clone(&dependencies));
            tokio::select! {
                () = session.run() => {}
                () = lost(leader.clone()) => {}
            }
            tracing::warn!(
                cluster = name,
                "this server no longer publishes trust bundles to the cluster"
            );
            continue;
        }
        for target in &targets {
            dependencies
                .distribution
                .set(report::bare(name, target, writer.clone()));
        }
        if leader.changed().await.is_err() {
            return;
        }
    }
}

/// Returns when another server holds the Lease, or when this one did not renew it in time.
async fn lost(mut leader: LeaderReceiver) {
    loop {
        let Leader::This(until) = *leader.borrow_and_update() else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => return,
            changed = leader.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
