//! What is known about the parts of a mesh when a rotation is to move.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::ledger::LiveCertificates;

/// What the rules read. *Arriving* and *leaving* are meant in the direction of the rotation: once it
/// goes back, what was new leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub now: UnixTime,
    pub preparation: Preparation,
    /// Why the issuing CA that signed before could not sign again.
    pub no_return: Option<String>,
    /// Every server that signs for the authority.
    pub servers: Vec<ServerEvidence>,
    /// Every target in every cluster.
    pub targets: Vec<TargetEvidence>,
    /// Followers of the bundle stream that say what they have applied.
    pub watchers: Vec<WatcherEvidence>,
    /// Proxies that read their roots when they start, by cluster.
    pub proxies: Vec<ProxyEvidence>,
    /// Live certificates whose holders received a bundle without the arriving root, and none since.
    pub without_root: LiveCertificates,
    /// Live certificates below what leaves.
    pub alive: LiveCertificates,
    /// How long a pod may take to read an object that was changed.
    pub settle: Duration,
}

/// Whether the arriving CA can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    Ready,
    /// This server still makes keys and certificates.
    Running,
    /// The upstream CA has not certified the key.
    WaitsForCertificate,
    Problem(String),
}

/// A server's own view of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvidence {
    pub instance: String,
    /// It has not said what it serves.
    pub is_silent: bool,
    /// When it counts as dead unless it renews its lease; `None` for the one that asks.
    pub lease_until: Option<UnixTime>,
    /// It answers with a bundle that is at least as new as the recorded one.
    pub has_bundle: bool,
    /// It signs under the issuing CA that is recorded as the one that signs.
    pub has_issuer: bool,
}

/// The objects of one target in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEvidence {
    pub cluster: String,
    pub target: String,
    pub state: TargetState,
    /// Who changed an object last that held the bundle, and when.
    pub edit: Option<String>,
}

/// A follower of the bundle stream that belongs to no cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvidence {
    /// Its name in the configuration, and what tells it from others of the name.
    pub name: String,
    pub state: WatcherState,
}

/// What a watcher has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherState {
    /// The newest bundle.
    Applied,
    /// Another one; the digest is not that of the bundle with this sequence.
    Other { sequence: u64, newest: u64 },
    /// It is configured, and has never said anything.
    Silent,
}

/// What the cluster's API server has of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Every object holds the newest bundle, without a break since then.
    Holds { since: UnixTime },
    /// Some do not.
    Behind { objects: usize, why: Option<String> },
    /// Another writer keeps changing some.
    Contested { objects: usize },
    /// The API server has not been heard of, or another server writes there.
    Unknown { why: String },
    /// An operator has said that the cluster is gone, and why.
    Gone { reason: String },
}

/// Proxies of one cluster that hold the roots that they were started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyEvidence {
    pub cluster: String,
    /// Without the newest bundle, or with roots that cannot be determined; `None` if they cannot be
    /// counted.
    pub outdated: Option<usize>,
    /// Some of them, `namespace/name`.
    pub examples: Vec<String>,
}
