//! The programs of PostgreSQL, and the processes that they become.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Pid, User, geteuid};

/// A program that refuses to be root's, as another user where this one is root.
pub(crate) fn unprivileged(program: &Path) -> Command {
    if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// To the user of [`unprivileged`].
pub(crate) fn give_away(path: &Path) {
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        chown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    }
}

/// The state and the parent of a process, from /proc/PID/stat.
fn stat(process: &str) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let pid = name.parse().ok()?;
            (stat(&name)?.1 == parent.as_raw()).then_some(Pid::from_raw(pid))
        })
        .collect()
}

pub(super) fn is_running(process: Pid) -> bool {
    stat(&process.to_string()).is_some_and(|(state, _)| state != "Z")
}

/// A number that differs between processes.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A program of the newest version that is installed.
pub(super) fn binary(name: &str) -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed: run `make setup`");
    let newest = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres")
                .exists()
                .then_some((version, path))
        })
        .max()
        .expect("PostgreSQL is not installed: run `make setup`");
    newest.1.join("bin").join(name)
}

pub(super) fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
