//! `serve`.

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::open::{actor, config_with_environment};
use crate::app::{self, AcceptOlder, ServeOptions};

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Log in even if one more wrong PIN locks the token.
    #[arg(long)]
    final_try: bool,
    /// Go on with a ledger that is older than this server's mark; recorded in the ledger.
    #[arg(long, requires = "reason")]
    accept_older_ledger: bool,
    /// Why the older ledger is accepted.
    #[arg(long, value_name = "TEXT", requires = "accept_older_ledger")]
    reason: Option<String>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = config_with_environment(&args.config)?;
    let reason = args.reason.clone().filter(|_| args.accept_older_ledger);
    let options = ServeOptions {
        final_try: args.final_try,
        accept_older_ledger: reason.map(|reason| AcceptOlder {
            by: actor(),
            reason,
        }),
    };
    let served = app::serve(config.file().to_owned(), options, || {});
    runtime()?.block_on(served).map_err(Failure::from)
}

/// The multi-threaded runtime of the server.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))
}
