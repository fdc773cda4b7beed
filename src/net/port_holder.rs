//! Who listens on a port already, for the message of a listener that cannot.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};

/// The process that listens on `address`, as far as this user may see it: `nginx (process 1234)`.
pub(super) fn holder(address: SocketAddr) -> Option<String> {
    let entries = [procfs::net::tcp(), procfs::net::tcp6()];
    let sockets: BTreeSet<u64> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Listen && overlap(entry, address))
        .map(|entry| entry.inode)
        .collect();
    let process = procfs::process::all_processes()
        .ok()?
        .flatten()
        .find(|process| holds(process, &sockets))?;
    let name = process.stat().ok()?.comm;
    Some(format!("{name} (process {})", process.pid))
}

/// The same port, and the same address or that of all interfaces.
fn overlap(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let (one, other) = (entry.local_address, address);
    let [a, b] = [one, other].map(|each| each.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn holds(process: &Process, sockets: &BTreeSet<u64>) -> bool {
    let Ok(files) = process.fd() else {
        return false;
    };
    files
        .flatten()
        .any(|file| matches!(file.target, FDTarget::Socket(inode) if sockets.contains(&inode)))
}
