//! What servers and watchers have of the trust bundles, and clusters that an operator has declared gone.

use crate::clock::UnixTime;
use crate::x509::TrustDomain;

/// In the instance's name of a command, which signs for a moment and serves nobody.
pub const COMMAND: &str = "/cli-";

/// What one server has of an authority. It replaces the server's last report of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    pub instance: String,
    pub trust_domain: TrustDomain,
    /// The published bundle.
    pub sequence: u64,
    pub digest: [u8; 32],
    /// What it signs under.
    pub issuer: Option<String>,
    /// What it knows of its clusters, as its program writes it.
    pub details: String,
    pub at: UnixTime,
}

/// A server whose lease has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveServer {
    pub instance: String,
    /// It is believed to be alive until then, unless it renews its lease.
    pub until: UnixTime,
    /// Those of its newest epoch: a process that died says nothing about the one that follows.
    pub reports: Vec<ServerReport>,
}

/// The bundle that a follower of the bundle stream has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherReport {
    pub trust_domain: TrustDomain,
    /// Empty for a watcher that belongs to no cluster.
    pub cluster: String,
    /// What tells it from others of the same cluster.
    pub name: String,
    pub sequence: u64,
    pub digest: [u8; 32],
    /// What it says of its targets, as its program writes it.
    pub details: String,
    pub at: UnixTime,
    /// The server that it told.
    pub instance: String,
}

/// A cluster that an operator has declared gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneCluster {
    pub cluster: String,
    pub reason: String,
    pub at: UnixTime,
    pub by: String,
    /// When it was heard of again: from then on it is waited for like every other.
    pub returned_at: Option<UnixTime>,
}

/// A change of what is known about clusters and watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceChange {
    /// Nobody waits for the cluster, and its watchers are forgotten.
    Gone { cluster: String, reason: String },
    /// It was heard of again. If it was not declared gone, nothing is written.
    Returned { cluster: String, how: String },
    /// One watcher is waited for no longer.
    ForgetWatcher {
        trust_domain: TrustDomain,
        cluster: String,
        name: String,
        reason: String,
    },
}
