//! What the limits allow in memory, against what the process may use.

use std::fmt::{self, Display};

use super::Config;
use crate::admin;

const MIB: u64 = 1024 * 1024;
/// The process with its ledger and its PKCS#11 module, and the answers that are being made.
const PROCESS: u64 = 64 * MIB;
/// What a cluster's API server can make the process keep.
const CLUSTER: u64 = 128 * MIB;

/// The most that the limits allow at a time, part by part.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Each part, and its bytes.
    parts: Vec<(String, u64)>,
    stated_mib: Option<u64>,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let mut parts = vec![("the process".to_owned(), PROCESS)];
        let admin = admin::limits(admin::SOCKETS);
        parts.push(("admin".to_owned(), admin.memory().total()));
        for listener in &config.listeners {
            let memory = listener.limits().memory();
            let what = format!("listeners.{} ({memory})", listener.name());
            parts.push((what, memory.total()));
        }
        let clusters = config.clusters.keys();
        parts.extend(clusters.map(|name| (format!("clusters.{name}"), CLUSTER)));
        Self {
            parts,
            stated_mib: config.instance.memory_mib(),
        }
    }

    /// The sum, rounded up.
    pub fn total_mib(&self) -> u64 {
        let bytes: u64 = self.parts.iter().map(|(_, bytes)| bytes).sum();
        bytes.div_ceil(MIB)
    }

    /// What to do where the limits allow more than `instance.memory_mib`.
    pub fn warning(&self) -> Option<String> {
        let stated = self
            .stated_mib
            .filter(|stated| *stated < self.total_mib())?;
        Some(format!(
            "the limits allow {} MiB of memory, more than instance.memory_mib = {stated}: {self}; lower \
             max_connections, max_handshakes or request_memory_bytes, or give the process more memory",
            self.total_mib()
        ))
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, bytes)) in self.parts.iter().enumerate() {
            let plus = if index > 0 { " + " } else { "" };
            write!(f, "{plus}{} MiB {what}", bytes.div_ceil(MIB))?;
        }
        Ok(())
    }
}
