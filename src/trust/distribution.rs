//! Who has the bundle: how far each place in each cluster is in step with what is published.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Who writes to a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum TargetWriter {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// This server.
    This,
    /// Another one.
    Other {
        /// Its instance's name.
        holder: String,
    },
    /// It cannot be said, so nobody here writes.
    Unreachable {
        /// What was tried and what came of it.
        why: String,
    },
}

/// How one target stands in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetStatus {
    /// The cluster.
    pub cluster: String,
    /// The target's name in the configuration.
    pub target: String,
    /// Whose bundle.
    pub trust_domain: String,
    /// The object's kind and name.
    pub object: String,
    /// Who writes.
    pub writer: TargetWriter,
    /// The newest bundle that is to be there; `None` before there is one.
    pub wanted: Option<Version>,
    /// The newest bundle that stood everywhere at once.
    pub applied: Option<Version>,
    /// When it first did, RFC 3339.
    pub applied_at: Option<String>,
    /// The same, seconds since 1970.
    #[serde(skip)]
    pub applied_at_secs: Option<i64>,
    /// Objects that hold what is wanted.
    pub in_step: usize,
    /// Objects that do not yet.
    pub behind: usize,
    /// Of those, objects whose last write has failed.
    pub failing: usize,
    /// Objects that somebody else rewrites again and again.
    pub contested: usize,
    /// Writes since this server began to write here.
    pub writes: u64,
    /// What is wrong, where anything is.
    pub error: Option<String>,
}

/// One version of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 of its anchors, lower-case hexadecimal.
    pub digest: String,
}

/// How every target stands in every cluster.
#[derive(Debug, Default)]
pub struct Distribution(Mutex<BTreeMap<(String, String), TargetStatus>>);

impl Distribution {
    /// Puts down how a target stands.
    pub fn set(&self, status: TargetStatus) {
        let key = (status.cluster.clone(), status.target.clone());
        self.lock().insert(key, status);
    }

    /// Every target in every cluster.
    pub fn all(&self) -> Vec<TargetStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), TargetStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
