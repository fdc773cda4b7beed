//! Carries the trust bundle into clusters: ConfigMaps in every namespace that is to have one, and
//! ClusterTrustBundles.
//!
//! For each cluster one task asks for the Lease; while it is held, a session watches what is there
//! and writes what differs, at a bounded pace, what somebody waits for before the bulk. Nothing is
//! polled and nothing is written that stands already. A cluster that is down holds up only itself.

mod config;
mod conflict;
mod desired;
mod drift;
mod error;
mod kinds;
mod lease;
mod listing;
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

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::PublisherConfig;
pub use drift::Drift;
pub use raw::{Format, Kind, Preset, RawPublisher, RawTarget};
pub(in crate::controllers) use target::{LINKERD_KEY, LINKERD_ROOTS};
pub use target::{TargetConfig, check_targets, targets};

use self::lease::{Election, Leader};
use self::session::Session;
use crate::clock::Clock;
use crate::cluster::{Cluster, Clusters};
use crate::ledger::Ledger;
use crate::trust::{Bundles, Distribution, TargetWriter};

/// What every cluster's writer works with.
#[derive(Debug)]
pub struct Shared {
    /// How fast is written, and who writes.
    pub config: PublisherConfig,
    /// This server's name, under which it holds the Lease.
    pub instance: String,
    /// What is published.
    pub bundles: Arc<Bundles>,
    /// Where it is said how far it has come.
    pub distribution: Arc<Distribution>,
    /// Where it is recorded that a version stands everywhere.
    pub ledger: Arc<dyn Ledger>,
    /// For what is told to people; waits are measured without it.
    pub clock: Arc<dyn Clock>,
}

/// Begins to write `targets` to `clusters`, until `stop`.
pub fn start(
    shared: Shared,
    targets: &[TargetConfig],
    clusters: &Clusters,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let shared = Arc::new(shared);
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
            config: shared.config.clone(),
            identity: shared.instance.clone(),
            clock: Arc::clone(&shared.clock),
        };
        let unknown = Leader::Unreachable("it has not been tried yet".to_owned());
        let (sender, leader) = tokio::sync::watch::channel(unknown);
        tasks.spawn(election.run(sender, stop.clone()));
        let stop = stop.clone();
        let publish = publish(Arc::clone(cluster), own, Arc::clone(&shared), leader);
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = publish => {}
            }
        });
    }
}

type Leading = tokio::sync::watch::Receiver<Leader>;

/// Writes to one cluster whenever this server is the one that may.
async fn publish(
    cluster: Arc<Cluster>,
    targets: Vec<Arc<target::TargetConfig>>,
    shared: Arc<Shared>,
    mut leading: Leading,
) {
    let name = cluster.config().name();
    loop {
        let leader = leading.borrow_and_update().clone();
        let writer = match leader {
            Leader::This(until) if std::time::Instant::now() < until => TargetWriter::This,
            Leader::This(_) => TargetWriter::Unreachable {
                why: "the Lease was not renewed in time".to_owned(),
            },
            Leader::Other(holder) => TargetWriter::Other { holder },
            Leader::Unreachable(why) => TargetWriter::Unreachable { why },
        };
        if writer == TargetWriter::This {
            tracing::info!(cluster = name, "this server publishes trust bundles there");
            let session = Session::new(Arc::clone(&cluster), &targets, Arc::clone(&shared));
            tokio::select! {
                () = session.run() => {}
                () = lost(leading.clone()) => {}
            }
            tracing::warn!(
                cluster = name,
                "this server has stopped to publish trust bundles there"
            );
            continue;
        }
        for target in &targets {
            shared
                .distribution
                .set(report::bare(name, target, writer.clone()));
        }
        if leading.changed().await.is_err() {
            return;
        }
    }
}

/// Until the Lease is not this server's any more: because another has it, or because it was not
/// renewed in time.
async fn lost(mut leading: Leading) {
    loop {
        let Leader::This(until) = *leading.borrow_and_update() else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => return,
            changed = leading.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
