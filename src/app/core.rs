//! HSM, ledger and signing pipeline, for the server and the commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::high_water::{AcceptOlder, MarkFile, MarkWriter, require_newest};
use super::token_mark::TokenMark;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::hsm::{Hsm, HsmError};
use crate::issuance::{Ceremony, SigningPipeline};
use crate::ledger::{Actor, COMMAND, Ledger, LedgerError, OpenMode};

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
    /// Renews the lease of the pipeline's epoch. Every core has one: without it, a running server
    /// concludes what this process still works on.
    lease: Background,
    /// Keeps a server's mark of how far the ledger has come.
    mark: Option<Background>,
    /// What came to light after the start.
    older: watch::Receiver<Option<LedgerError>>,
}

/// A task that runs until [`Core::close`].
#[derive(Debug, Clone)]
struct Background {
    task: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    fn start<F: Future<Output = ()> + Send + 'static>(
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        task.spawn(work(stop.clone()));
        task.close();
        Self { task, stop }
    }

    async fn end(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

impl Core {
    /// For `serve`: takes the ledger's lock, and refuses a ledger that is behind this server's mark
    /// unless it is accepted.
    pub async fn open_server(
        config: &Config,
        accept: Option<&AcceptOlder>,
    ) -> Result<Self, StartError> {
        let parts = Parts::open(config, OpenMode::Server).await?;
        let mark = MarkFile::new(config);
        // Before anything is recorded in it.
        let ledger = Arc::clone(&parts.ledger);
        let instance = config.instance().name();
        let token = match config.hsm().token_names().next() {
            Some(name) => {
                let token = parts.hsm.token(name)?;
                Some(TokenMark::new(token, Arc::clone(&ledger), instance))
            }
            None => None,
        };
        let mut token = token;
        require_newest(ledger.as_ref(), &mark, token.as_mut(), accept).await?;
        let mut core = Self::new(parts, config, instance).await?;
        let (older, told) = watch::channel(None);
        core.older = told;
        let writer = MarkWriter::new(ledger, mark, token, older);
        core.mark = Some(Background::start(|stop| writer.follow(stop)));
        Ok(core)
    }

    /// For a command beside a running server: it has a unique instance name, so that no server treats
    /// its open records as those of a dead process before its lease expires.
    pub async fn open_shared(config: &Config) -> Result<Self, StartError> {
        let host = config.instance().name();
        let instance = format!(
            "{host}{COMMAND}{}",
            crate::x509::Serial::new(SystemClock.now())
        );
        let parts = Parts::open(config, OpenMode::Shared).await?;
        Self::new(parts, config, &instance).await
    }

    /// Returns when a mark shows that the ledger is not the newest.
    pub async fn outdated(&self) -> LedgerError {
        let mut older = self.older.clone();
        loop {
            if let Some(error) = older.borrow_and_update().clone() {
                return error;
            }
            if older.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
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
        self.pipeline.work_leases().give_up_all().await;
        self.lease.end().await;
        if let Some(mark) = &self.mark {
            mark.end().await;
        }
        self.ledger.close().await;
        done
    }

    async fn new(parts: Parts, config: &Config, instance: &str) -> Result<Self, StartError> {
        let Parts { hsm, ledger, clock } = parts;
        let (deadline, lease) = (config.hsm().deadline(), config.instance().lease());
        let pipeline = SigningPipeline::open(
            Arc::clone(&ledger),
            Arc::clone(&clock),
            instance,
            deadline,
            lease,
        )
        .await?;
        let maintained = pipeline.clone();
        Ok(Self {
            hsm,
            ledger,
            lease: Background::start(|stop| async move { maintained.maintain(stop).await }),
            mark: None,
            older: watch::channel(None).1,
            pipeline,
            clock,
        })
    }
}

/// What a core is made of.
struct Parts {
    hsm: Arc<Hsm>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
}

impl Parts {
    async fn open(config: &Config, mode: OpenMode) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let hsm = match mode {
            // Bundles, records and the other tokens do not wait for a module.
            OpenMode::Server => Hsm::open_with_tokens(config.hsm())?,
            OpenMode::Shared => Hsm::open(config.hsm())?,
        };
        let hsm = Arc::new(hsm);
        let ledger = config
            .ledger()
            .store()
            .open(mode, Arc::clone(&clock))
            .await?;
        Ok(Self { hsm, ledger, clock })
    }
}
