//! `upstream test`.

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::open::block_on;
use super::output;

#[derive(Debug, clap::Subcommand)]
pub(super) enum UpstreamCommand {
    /// See whether an upstream CA answers, accepts the credential and may sign CAs. No certificate is
    /// requested.
    Test(TestArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Its name in [upstream.NAME].
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: UpstreamCommand) -> Result<(), Failure> {
    let UpstreamCommand::Test(args) = command;
    let config = args.common.config.load()?;
    let known = config.upstream().upstreams();
    let upstream = known.get(&args.name).ok_or_else(|| {
        let message = format!("there is no [upstream.{}]", args.name.escape_debug());
        let known: Vec<_> = known.keys().map(String::as_str).collect();
        let next = match known.is_empty() {
            true => "add one: docs/reference/config.md#upstream".to_owned(),
            false => format!("known: {}", known.join(", ")),
        };
        Failure::new(Exit::Config, message).next(next)
    })?;
    let found = block_on(upstream.connect().test())?.map_err(|error| {
        Failure::new(Exit::Unavailable, error.reason).at(format!("upstream.{}", args.name))
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({ "upstream": args.name, "found": found }));
    }
    found.iter().try_for_each(output::line)
}
