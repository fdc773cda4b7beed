//! What the tests of the real binary share: a directory, a token, a configured CA, its process,
//! callers' tokens, other people's tools.

pub(crate) mod envoy;
pub(crate) mod http;
pub(crate) mod interop;
pub(crate) mod jwt;
pub(crate) mod mesh;
pub(crate) mod openssl;
pub(crate) mod process;
pub(crate) mod trace;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; does `make setup` still pass?"))
}

/// Runs a command that must succeed; what it printed on standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
