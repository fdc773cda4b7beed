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
            let warnings = [config.warnings(), missing_files(&config)].concat();
            output::json(&json!({
                "file": file,
                "valid": true,
                "findings": [],
                "memory_mib": memory.total_mib(),
                "warnings": warnings,
            }))
        }
        Ok(config) => {
            output::line(format!("{} is valid", file.display()))?;
            let memory = config.memory();
            for warning in [config.warnings(), missing_files(&config)].concat() {
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

/// The operators' credential files that this machine does not have.
fn missing_files(config: &Config) -> Vec<String> {
    let operators = config.authn().operators().iter();
    let missing = operators.filter(|(_, operator)| !operator.credential_file().exists());
    missing
        .map(|(name, operator)| {
            format!(
                "operators.{name}.credential_file: there is no {} on this machine; \
                 `rootbridge operator new {name}` makes it",
                operator.credential_file().display()
            )
        })
        .collect()
}
