//! Environment variables that a PKCS#11 module reads with getenv.
//!
//! They must be set when the process starts: changing the environment of a running process is
//! unsafe. A process that lacks one executes itself again with it, once.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, id};

use super::failure::{Exit, Failure};
use super::format::joined;
use crate::config::Config;

/// Holds the process ID, which survives exec, of a process that executed itself again.
const GUARD: &str = "ROOTBRIDGE_STARTED_AGAIN";

/// Returns when every variable of `hsm.environment` is set. Otherwise replaces this process by one in
/// which they are, which reads the configuration again; call it before anything else is read, opened or
/// written.
pub(super) fn ensure(config: &Config) -> Result<(), Failure> {
    let missing = config.hsm().missing_environment();
    if missing.is_empty() {
        return Ok(());
    }
    let names = joined(missing.iter().map(|(name, _)| name), ", ");
    if env::var(GUARD).is_ok_and(|guard| guard == id().to_string()) {
        let message = format!("{names} could not be set from hsm.environment");
        return Err(Failure::new(Exit::Hsm, message).next("start rootbridge with it set"));
    }
    if !config.file().is_file() {
        let message = format!("a configuration in a pipe can be read once, and {names} is not set");
        return Err(Failure::new(Exit::Config, message)
            .at(config.file().display())
            .next("start rootbridge with it set, or give the configuration as a file"));
    }
    // current_exe() is a path, where another file may be by now.
    let same_file = Path::new("/proc/self/exe");
    let program = match same_file.exists() {
        true => same_file.to_owned(),
        false => env::current_exe().map_err(|e| Failure::new(Exit::Failed, e.to_string()))?,
    };
    let mut command = Command::new(program);
    let mut arguments = env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command
        .args(arguments)
        .envs(missing.iter().copied())
        .env(GUARD, id().to_string())
        .exec();
    let message = format!("cannot start again with {names}: {error}");
    Err(Failure::new(Exit::Failed, message).next("start rootbridge with it set"))
}
