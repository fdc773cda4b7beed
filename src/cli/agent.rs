//! `agent`.

use std::path::PathBuf;

use super::failure::Failure;
use super::serve::runtime;
use crate::app;

#[derive(Debug, clap::Args)]
pub(super) struct AgentArgs {
    /// The agent's configuration.
    #[arg(short, long, value_name = "FILE", env = "ROOTBRIDGE_AGENT_CONFIG")]
    config: PathBuf,
}

pub(super) fn run(args: AgentArgs) -> Result<(), Failure> {
    runtime()?
        .block_on(app::agent(args.config))
        .map_err(Failure::from)
}
