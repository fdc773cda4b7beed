//! `config validate`.

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::Failure;
use super::output;
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration file; nothing is opened or started.
    Validate(CommonArgs),
}

pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Validate(args) = command;
    let file = args.config.file()?;
    match Config::load(&file) {
        Ok(config) if args.format.is_json() => {
            let memory = config.memory();
            output::json(&json!({
                "file": file,
                "valid": true,
                "findings": [],
                "memory_mib": memory.total_mib(),
                "warnings": config.warnings(),
            }))
        }
        Ok(config) => {
            output::line(format!("{} is valid", file.display()))?;
            let memory = config.memory();
            for warning in config.warnings() {
                output::line(format!("warning: {warning}"))?;
            }
            match memory.warning() {
                Some(_) => Ok(()),
                None => output::line(format!(
                    "its limits allow {} MiB of memory: {memory}",
                    memory.total_mib()
                )),
            }
        }
        Err(error) => {
            if args.format.is_json() {
                let findings: Vec<_> = error
                    .findings()
                    .iter()
                    .map(|f| json!({ "place": f.place(), "what": f.what(), "write": f.to_write() }))
                    .collect();
                output::json(&json!({ "file": file, "valid": false, "findings": findings }))?;
            }
            Err(error.into())
        }
    }
}
