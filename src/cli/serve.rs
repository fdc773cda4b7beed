//! `serve`.

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::open::configuration;
use crate::app;

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Log in although one more wrong PIN would lock the token.
    #[arg(long)]
    final_try: bool,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = configuration(&args.config)?;
    let served = app::serve(config.file().to_owned(), args.final_try, || {});
    runtime()?.block_on(served).map_err(Failure::from)
}

/// The runtime that serves.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))
}
