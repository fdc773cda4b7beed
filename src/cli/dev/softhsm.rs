//! Finds SoftHSM's PKCS#11 module.

use std::path::{Path, PathBuf};

use crate::cli::failure::{Exit, Failure};

/// Of Debian and Ubuntu, Fedora, Alpine and Arch, a source build, Homebrew.
const DEFAULTS: [&str; 9] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/lib/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

pub(super) fn find_module(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return std::path::absolute(path)
            .ok()
            .filter(|path| path.is_file())
            .ok_or_else(|| missing(&format!("no PKCS#11 module at {}", path.display())));
    }
    let found = DEFAULTS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    found.ok_or_else(|| missing("SoftHSM is not installed: no libsofthsm2.so in the usual places"))
}

fn missing(message: &str) -> Failure {
    Failure::new(Exit::Hsm, message)
        .next("apt-get install softhsm2 (Debian, Ubuntu), dnf install softhsm (Fedora)")
        .next("or give --module FILE")
}
