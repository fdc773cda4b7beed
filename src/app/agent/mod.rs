//! `rootbridge agent`: starts the publisher of one cluster, and follows a server.

mod server;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{log, service_manager};
use crate::clock::{Clock, SystemClock};
use crate::cluster::Clusters;
use crate::config::AgentFile;
use crate::controllers::agent::Agent;
use crate::controllers::publisher::{self, Dependencies};
use crate::rotation::ConfiguredTarget;
use crate::trust::{Bundles, Distribution, PublishedBundles};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration, or the file with the last bundle.
pub async fn agent(file: PathBuf) -> anyhow::Result<()> {
    let config = AgentFile::load(&file)?;
    let _log_guard = log::init(config.log());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bundles = Arc::new(Bundles::default());
    let distribution = Arc::new(Distribution::default());
    let clusters = Clusters::start(config.clusters(), &clock, &tasks, &stop);
    let settings = config.agent().clone();
    let targets = config.bundle_targets().iter().flat_map(|target| {
        let each = |cluster: &str| ConfiguredTarget {
            cluster: cluster.to_owned(),
            target: target.name().to_owned(),
            trust_domain: target.trust_domain().clone(),
        };
        target.clusters().map(each).collect::<Vec<_>>()
    });
    let agent = Agent {
        connect: server::connector(&settings),
        bundles: Arc::clone(&bundles),
        distribution: Arc::clone(&distribution),
        targets: targets.collect(),
        clock: Arc::clone(&clock),
        config: settings.clone(),
    };
    agent.restore()?;
    let at = Arc::clone(&clock);
    let dependencies = Dependencies {
        config: config.publisher().clone(),
        // In the Lease: two agents of one cluster take turns.
        instance: format!("agent/{}", settings.instance()),
        bundles: Arc::new(PublishedBundles::new(bundles, BTreeSet::new())),
        distribution,
        // The server's ledger has what the agent reports.
        record: Box::new(move |_, _| {
            let now = at.now();
            Box::pin(async move { Ok(now) })
        }),
        clock,
    };
    publisher::start(
        dependencies,
        config.bundle_targets(),
        &clusters,
        &tasks,
        &stop,
    );
    tasks.spawn(agent.run(stop.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), server = settings.server(),
        trust_domain = %settings.trust_domain(), instance = settings.instance(), "the agent runs"
    );
    service_manager::ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service_manager::stopping();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    tracing::info!("stopped");
    Ok(())
}
