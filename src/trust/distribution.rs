//! The distribution of the published bundles: the status of each target in each cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The server that writes to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum TargetWriter {
    #[default]
    Unknown,
    This,
    Other {
        /// The instance's name.
        holder: String,
    },
    /// The lease is unavailable, so this server does not write.
    Unreachable {
        why: String,
    },
}

/// The status of a target in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetStatus {
    pub cluster: String,
    /// The name in the configuration.
    pub target: String,
    pub trust_domain: String,
    /// The objects' kind and name.
    pub object: String,
    pub writer: TargetWriter,
    /// The newest published bundle.
    pub wanted: Option<Version>,
    /// The newest bundle that all objects contained.
    pub applied: Option<Version>,
    /// When they first did, RFC 3339.
    pub applied_at: Option<String>,
    /// The same in seconds since 1970.
    #[serde(skip)]
    pub applied_at_secs: Option<i64>,
    /// Objects that contain the wanted bundle.
    pub in_step: usize,
    /// Objects that do not.
    pub behind: usize,
    /// Of those, objects whose last write failed.
    pub failing: usize,
    /// Objects that another writer keeps changing.
    pub contested: usize,
    /// Writes since this server became the writer.
    pub writes: u64,
    pub error: Option<String>,
    /// Who changed an object last that held the wanted bundle, and when.
    pub last_edit: Option<String>,
}

/// A version of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    pub sequence: u64,
    /// SHA-256 of the anchors, lower-case hex.
    pub digest: String,
}

/// The status of every target in every cluster.
#[derive(Debug, Default)]
pub struct Distribution(Mutex<BTreeMap<(String, String), TargetStatus>>);

impl Distribution {
    pub fn set(&self, status: TargetStatus) {
        let key = (status.cluster.clone(), status.target.clone());
        self.lock().insert(key, status);
    }

    pub fn all(&self) -> Vec<TargetStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), TargetStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
