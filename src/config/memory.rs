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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn load(memory_mib: u64, limits: &str, more: &str) -> Config {
        let text = format!(
            "[instance]\nmemory_mib = {memory_mib}\n[ledger]\npath = '/l'\n[hsm]\nmodule = '/m.so'\n\
             [listeners.mesh]\naddress = '127.0.0.1:0'\napis = ['bundles']\n\
             [listeners.mesh.tls]\ntrust_domain = 'td'\ndns = ['localhost']\n\
             [listeners.mesh.limits]\n{limits}\n{more}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load_with(file.path(), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn each_limit_counts_and_what_does_not_fit_is_a_warning() {
        let total = |limits: &str, more: &str| load(1, limits, more).memory().total_mib();
        let least = total("", "");
        // 1024 connections of 96 KiB, 512 handshakes of 128 KiB, 64 MiB of requests, a cluster.
        for (limits, more, mib) in [
            ("max_connections = 3024", "", 96),
            ("max_handshakes = 1024", "", 64),
            ("request_memory_bytes = 134217728", "", 64),
            ("", "[clusters.east]\ntrust_domain = 'td'\n", 128),
        ] {
            assert_eq!(total(limits, more), least + mib, "{limits}{more}");
        }
        let fits = load(least, "", "");
        assert!(!fits.warnings().iter().any(|text| text.contains("memory")));
        let warnings = load(least - 1, "", "").warnings();
        let warning = warnings.iter().find(|text| text.contains("memory_mib"));
        let says = format!("the limits allow {least} MiB of memory");
        let parts = "2000 connections of 96 KiB, 512 handshakes of 128 KiB, 64 MiB for requests";
        assert!(
            warning.is_some_and(|text| text.contains(&says) && text.contains(parts)),
            "{warnings:?}"
        );
    }
}
