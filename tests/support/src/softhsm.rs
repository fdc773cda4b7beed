//! SoftHSM, and a PKCS#11 module in front of it that fails on command.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;
use crate::files::repository;

/// SoftHSM's module.
pub fn module() -> PathBuf {
    find(
        "SoftHSM (Debian: softhsm2)",
        &[
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib64/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        ],
    )
}

/// Another package's PKCS#11 module; `what` names it and its package.
pub fn pkcs11(what: &str, file: &str) -> PathBuf {
    let directories = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    let paths = directories.map(|dir| [format!("{dir}/pkcs11/{file}"), format!("{dir}/{file}")]);
    find(what, paths.as_flattened())
}

/// `pkcs11-spy`, which logs every call.
pub fn spy() -> PathBuf {
    pkcs11("pkcs11-spy (Debian: opensc)", "pkcs11-spy.so")
}

fn find<P: AsRef<Path>>(what: &str, paths: &[P]) -> PathBuf {
    let found = paths.iter().map(AsRef::as_ref).find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("{what} is not installed"))
        .to_owned()
}

/// Compiles the module that fails on command (`faulty_module.c`) and forwards to
/// `RB_SHIM_MODULE`; it reads commands from `RB_SHIM_CONTROL`.
pub fn build_faulty_module(path: &Path) {
    run(Command::new("cc")
        .args(["-std=gnu17", "-shared", "-fPIC", "-o"])
        .arg(path)
        .arg(repository("tests/support/faulty_module.c"))
        .arg("-ldl"));
}

/// p11-kit's module, which finds its server by `P11_KIT_SERVER_ADDRESS`.
pub fn p11_kit_client() -> PathBuf {
    pkcs11(
        "p11-kit's client (Debian: p11-kit-modules)",
        "p11-kit-client.so",
    )
}

/// Copies all tokens of a SoftHSM directory (`tokens`), keys included, to a new one, as an HSM's cluster or its
/// backup does; returns the configuration for it.
pub fn copy_tokens(from: &Path, to: &Path) -> PathBuf {
    let tokens = to.join("tokens");
    std::fs::create_dir_all(to).unwrap();
    run(Command::new("cp").arg("-r").arg(from).arg(&tokens));
    let configuration = to.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).unwrap();
    configuration
}
