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

/// Holds the process ID, which survives exec, of a process that executed itself again.
const GUARD: &str = "ROOTBRIDGE_STARTED_AGAIN";

/// Returns when every variable of `missing` is set. Otherwise replaces this process by one in which
/// they are; call it before anything is opened or written.
pub(super) fn ensure(missing: &[(&str, &str)]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = joined(missing.iter().map(|(name, _)| name), ", ");
    if env::var(GUARD).is_ok_and(|guard| guard == id().to_string()) {
        let message = format!("{names} could not be set from hsm.environment");
        return Err(Failure::new(Exit::Hsm, message).next("start rootbridge with it set"));
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
