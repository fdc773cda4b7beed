//! `serve`.

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::open::config_with_environment;
use crate::app;

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Log in even if one more wrong PIN locks the token.
    #[arg(long)]
    final_try: bool,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = config_with_environment(&args.config)?;
    let served = app::serve(config.file().to_owned(), args.final_try, || {});
    runtime()?.block_on(served).map_err(Failure::from)
}

/// The multi-threaded runtime of the server.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))
}
