//! `bundle status`: the state of `[bundle_targets.*]`, from the admin port.

use serde::Deserialize;
use serde_json::Value;

use super::admin::{AdminArgs, AdminPort};
use crate::cli::failure::Failure;
use crate::cli::open::block_on;
use crate::cli::output::{self, Cell, FormatArg};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    port: AdminArgs,
    #[command(flatten)]
    format: FormatArg,
}

/// The part of `/v1/status` that is shown; each target as the server reports it, for programs.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    bundle_targets: Vec<Value>,
}

pub(super) fn run(args: StatusArgs) -> Result<(), Failure> {
    let port = AdminPort::new(args.port)?;
    let status: Status = block_on(port.get("/v1/status"))??;
    if args.format.is_json() {
        return output::json(&status.bundle_targets);
    }
    output::table(
        status.bundle_targets.iter().map(row),
        "no bundle targets: add [bundle_targets.NAME] to the configuration",
    )?;
    for target in &status.bundle_targets {
        let error = ["/error", "/writer/why"]
            .iter()
            .find_map(|pointer| target.pointer(pointer)?.as_str());
        if let Some(error) = error {
            let (cluster, target) = (text(target, "/cluster"), text(target, "/target"));
            output::note(format!("{cluster} {target}: {error}"))?;
        }
    }
    Ok(())
}

fn row(target: &Value) -> [Cell; 11] {
    let writer = match text(target, "/writer/state").as_str() {
        "other" => text(target, "/writer/holder"),
        state => state.to_owned(),
    };
    [
        ("CLUSTER", text(target, "/cluster")),
        ("TARGET", text(target, "/target")),
        ("OBJECT", text(target, "/object")),
        ("WRITER", writer),
        ("DESIRED", text(target, "/wanted/sequence")),
        ("APPLIED", text(target, "/applied/sequence")),
        ("SINCE", text(target, "/applied_at")),
        ("UP TO DATE", text(target, "/in_step")),
        ("BEHIND", text(target, "/behind")),
        ("FAILING", text(target, "/failing")),
        ("CONTESTED", text(target, "/contested")),
    ]
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
