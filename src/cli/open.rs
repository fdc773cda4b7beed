//! What a command opens beside a running server, and who it says it is.

use std::sync::Arc;
use std::time::Duration;

use super::config_arg::ConfigArg;
use super::environment;
use super::failure::{Exit, Failure};
use crate::app::Core;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::ledger::{Actor, Ledger, OpenMode, Sqlite};

/// How long a command that ends waits for what is between record and conclusion.
const DRAIN: Duration = Duration::from_secs(10);

/// The configuration, in a process that has the variables its module needs.
pub(super) fn configuration(config: &ConfigArg) -> Result<Config, Failure> {
    let config = config.load()?;
    environment::ensure(&config.hsm().missing_environment())?;
    Ok(config)
}

/// Runs `work` with HSM, ledger and pipeline, and closes them in order.
pub(super) fn with_core<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Core) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let core = Core::open_shared(config).await?;
        let result = work(&core).await;
        core.pipeline.drain(DRAIN).await;
        core.ledger.close().await;
        result
    })?
}

/// Runs `work` with the ledger alone.
pub(super) fn with_ledger<T>(
    config: &Config,
    work: impl AsyncFnOnce(&dyn Ledger) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let path = config.ledger().path();
    // Asking for a list would otherwise make an empty one.
    if !path.exists() {
        return Err(Failure::new(
            Exit::Ledger,
            format!("there is no ledger at {} yet", path.display()),
        )
        .at(format!("{}: ledger.path", config.file().display()))
        .next("rootbridge ca init --trust-domain TRUST_DOMAIN"));
    }
    block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ledger = Sqlite::open(path, OpenMode::Shared, clock).await?;
        let result = work(&ledger).await;
        ledger.close().await;
        result
    })?
}

/// Runs one command to its end.
pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))
}

/// Who runs this process: user and host, and who became root to do it.
pub(super) fn actor() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_else(|| format!("uid-{uid}"));
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    // Only root is believed here, who could write anything into the ledger anyway.
    let sudo = std::env::var("SUDO_USER").ok().filter(|_| uid == 0);
    let plain = |name: &str| {
        name.chars()
            .filter(|c| c.is_ascii_graphic())
            .take(64)
            .collect::<String>()
    };
    let name = match sudo {
        Some(before) => format!(
            "{}@{} (sudo by {})",
            plain(&user),
            plain(&host),
            plain(&before)
        ),
        None => format!("{}@{}", plain(&user), plain(&host)),
    };
    Actor {
        name,
        via: "cli".to_owned(),
    }
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
