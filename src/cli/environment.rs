//! Variables that a PKCS#11 module reads with getenv.
//!
//! They have to be there when the process starts: changing the environment of a running process
//! is unsafe. So a process that lacks one starts itself again with it, in place, once.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, id};

use super::failure::{Exit, Failure};

/// Says that this process (the number survives exec) was started again already.
const GUARD: &str = "ROOTBRIDGE_STARTED_AGAIN";

/// Returns when every variable of `missing` is set. Otherwise this process is replaced by one in
/// which it is; nothing that was opened or written before is lost or done twice.
pub(super) fn ensure(missing: &[(&str, &str)]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = || {
        missing
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if env::var(GUARD).is_ok_and(|guard| guard == id().to_string()) {
        let what = format!("{} could not be set as hsm.environment says", names());
        return Err(Failure::new(Exit::Hsm, what).next("start rootbridge with it set"));
    }
    // The path of the file may be another file's by now.
    let itself = Path::new("/proc/self/exe");
    let program = match itself.exists() {
        true => itself.to_owned(),
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
    Err(Failure::new(
        Exit::Failed,
        format!("cannot start again with {}: {error}", names()),
    )
    .next("start rootbridge with it set"))
}
