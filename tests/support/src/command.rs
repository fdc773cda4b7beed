//! Programs that tests run: the one under test, and others.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The `rootbridge` under test: `ROOTBRIDGE_BIN` (such as an installed one), else the one that was
/// built with the running test. It finds no configuration of this machine.
pub fn rootbridge() -> Command {
    let built = || match std::env::var_os("CARGO_BIN_EXE_rootbridge") {
        Some(path) => PathBuf::from(path),
        // Without cargo: target/debug/rootbridge beside target/debug/deps/TEST.
        None => {
            let test = std::env::current_exe().unwrap();
            test.parent().unwrap().with_file_name("rootbridge")
        }
    };
    let program = std::env::var_os("ROOTBRIDGE_BIN").map_or_else(built, PathBuf::from);
    let mut command = Command::new(program);
    command
        .env_remove("RUST_LOG")
        .env_remove("ROOTBRIDGE_CLIENT")
        .env("XDG_STATE_HOME", "/nonexistent");
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; does `make setup` still pass?"))
}

/// Runs a command that must succeed; returns its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{command:?}: {status}\n{text}{error}");
    text
}
