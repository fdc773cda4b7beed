//! HSM, ledger and signing pipeline, for the server and the commands.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::hsm::{Hsm, HsmError};
use crate::issuance::{Ceremony, SigningPipeline};
use crate::ledger::{Actor, Ledger, LedgerError, OpenMode, Sqlite};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Hsm(#[from] HsmError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[derive(Debug, Clone)]
pub struct Core {
    pub hsm: Arc<Hsm>,
    pub ledger: Arc<dyn Ledger>,
    pub pipeline: SigningPipeline,
    pub clock: Arc<dyn Clock>,
    lease: LeaseTask,
}

/// Renews the lease of the pipeline's epoch until [`Core::close`]. Every core has one: without it, a
/// running server concludes what this process still works on.
#[derive(Debug, Clone)]
struct LeaseTask {
    task: TaskTracker,
    stop: CancellationToken,
}

impl LeaseTask {
    fn start(pipeline: &SigningPipeline) -> Self {
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        let (pipeline, until) = (pipeline.clone(), stop.clone());
        task.spawn(async move { pipeline.maintain(until).await });
        task.close();
        Self { task, stop }
    }
}

impl Core {
    /// For `serve`: takes the ledger's lock.
    pub async fn open_server(config: &Config) -> Result<Self, StartError> {
        let instance = config.instance().name().to_owned();
        Self::open(config, OpenMode::Server, &instance).await
    }

    /// For a command beside a running server: it has a unique instance name, so that no server treats
    /// its open records as those of a dead process before its lease expires.
    pub async fn open_shared(config: &Config) -> Result<Self, StartError> {
        let host = config.instance().name();
        let instance = format!("{host}/cli-{}", crate::x509::Serial::new(SystemClock.now()));
        Self::open(config, OpenMode::Shared, &instance).await
    }

    /// The ceremonies, on behalf of `actor`.
    pub fn ceremony(&self, actor: Actor) -> Ceremony {
        Ceremony::new(
            Arc::clone(&self.hsm),
            Arc::clone(&self.clock),
            self.pipeline.clone(),
            actor,
        )
    }

    /// Waits at most `bound` for the requests in flight, then gives up the lease and closes the
    /// ledger. Returns whether all of them are done.
    pub async fn close(&self, bound: Duration) -> bool {
        let done = self.pipeline.drain(bound).await;
        self.lease.stop.cancel();
        self.lease.task.wait().await;
        self.ledger.close().await;
        done
    }

    async fn open(config: &Config, mode: OpenMode, instance: &str) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let hsm = Arc::new(Hsm::open(config.hsm())?);
        let ledger = Sqlite::open(config.ledger().path(), mode, Arc::clone(&clock)).await?;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let (deadline, lease) = (config.hsm().deadline(), config.instance().lease());
        let pipeline = SigningPipeline::open(
            Arc::clone(&ledger),
            Arc::clone(&clock),
            instance,
            deadline,
            lease,
        )
        .await?;
        Ok(Self {
            hsm,
            ledger,
            lease: LeaseTask::start(&pipeline),
            pipeline,
            clock,
        })
    }
}
