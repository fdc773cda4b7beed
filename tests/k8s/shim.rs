//! An HSM that fails when it is told to.

use std::path::Path;
use std::process::Command;

use super::support::{Line, openssl};

/// Puts the real module of a CA that does not serve yet behind one that fails on command
/// (`tests/hsm/shim.c`); the answer commands it.
pub(crate) fn shimmed(line: &Line) -> impl Fn(&str) {
    let (shim, control) = (line.path("shim.so"), line.path("control"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hsm/shim.c");
    openssl::run(
        Command::new("cc")
            .args(["-std=gnu17", "-shared", "-fPIC", "-o"])
            .args([&shim, &source])
            .arg("-ldl"),
    );
    let real = "/usr/lib/softhsm/libsofthsm2.so";
    let module = |path: &str| format!("module = \"{path}\"\nenvironment = {{ ");
    let further = format!(
        "RB_SHIM_MODULE = \"{real}\", RB_SHIM_CONTROL = \"{}\", ",
        control.display()
    );
    let ours = module(&shim.display().to_string()) + &further;
    line.edit(&module(real), &ours);
    move |command| std::fs::write(&control, command).unwrap()
}
