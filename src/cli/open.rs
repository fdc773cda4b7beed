//! What commands open without a server, and the actor that they record.

use std::sync::Arc;
use std::time::Duration;

use super::config_arg::ConfigArg;
use super::environment;
use super::failure::{Exit, Failure};
use crate::app::Core;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::file_access::user_name;
use crate::ledger::{Actor, Ledger, Snapshot};

/// How long a command waits at its end for issuances that are recorded and not concluded.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a token may take to become ready.
pub(super) const TOKEN_READY: Duration = Duration::from_secs(10);

/// The configuration, in a process that has the environment variables of the PKCS#11 module.
pub(super) fn config_with_environment(config: &ConfigArg) -> Result<Config, Failure> {
    let config = config.load()?;
    environment::ensure(&config)?;
    Ok(config)
}

/// Runs `work` with HSM, ledger and signing pipeline, then closes them in order.
pub(super) fn with_core<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Core) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let core = Core::open_shared(config).await?;
        let result = work(&core).await;
        core.close(DRAIN).await;
        result
    })?
}

/// Runs `work` with the ledger alone, which must exist: a command that reads creates none.
pub(super) fn with_ledger<T>(
    config: &Config,
    work: impl AsyncFnOnce(&dyn Ledger) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_ledger_if_any(config, work)?.ok_or_else(|| {
        let store = config.ledger().store();
        let key = store.file().map_or("ledger.url", |_| "ledger.path");
        let message = format!("there is no ledger at {} yet", store.name());
        Failure::new(Exit::Ledger, message)
            .at(format!("{}: {key}", config.file().display()))
            .next("rootbridge ca init --trust-domain TRUST_DOMAIN")
    })
}

/// The same; `None` without a ledger.
fn with_ledger_if_any<T>(
    config: &Config,
    work: impl AsyncFnOnce(&dyn Ledger) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Some(ledger) = config.ledger().store().open_existing(clock).await? else {
            return Ok(None);
        };
        let result = work(ledger.as_ref()).await;
        ledger.close().await;
        result.map(Some)
    })?
}

/// Authorities, issuers and anchors as recorded.
pub(super) fn snapshot(config: &Config) -> Result<Snapshot, Failure> {
    with_ledger(config, async |ledger| Ok(ledger.snapshot().await?))
}

/// The same; `None` without a ledger.
pub(super) fn snapshot_if_any(config: &Config) -> Result<Option<Snapshot>, Failure> {
    with_ledger_if_any(config, async |ledger| Ok(ledger.snapshot().await?))
}

pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))
}

/// The user and host of this process; under sudo, the user before it as well.
pub(super) fn actor() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let plain = |name: &str| -> String {
        let graphic = name.chars().filter(char::is_ascii_graphic);
        graphic.take(64).collect()
    };
    let user = plain(&user_name(uid).unwrap_or_else(|| format!("uid-{uid}")));
    let host = plain(&rustix::system::uname().nodename().to_string_lossy());
    // The variable counts for root alone, who may write the ledger without this program.
    let name = match std::env::var("SUDO_USER") {
        Ok(before) if uid == 0 => format!("{user}@{host} (sudo by {})", plain(&before)),
        _ => format!("{user}@{host}"),
    };
    Actor {
        name,
        via: "cli".to_owned(),
        lease: None,
    }
}
