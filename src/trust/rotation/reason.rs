//! What holds a rotation back, by name.

use std::fmt;

use serde::Serialize;

use crate::clock::UnixTime;

/// A condition of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The arriving CA can be used.
    Preparation,
    /// Every server has the newest bundle.
    Server,
    /// Every object in every cluster holds the newest bundle.
    Target,
    /// Pods have had the time to read those objects.
    Settling,
    /// Every watcher of the bundle stream has applied the newest bundle.
    Watcher,
    /// Every proxy was started with the newest bundle.
    Proxy,
    /// Every holder of a certificate has received the arriving root.
    Holder,
    /// Every server signs under the issuing CA that stays.
    Signer,
    /// No certificate below what leaves is alive.
    Alive,
    /// No CA of somebody else below what leaves is alive.
    Subordinate,
    /// What signed before can sign again.
    Return,
}

impl Condition {
    pub const ALL: [Self; 11] = [
        Self::Preparation,
        Self::Server,
        Self::Target,
        Self::Settling,
        Self::Watcher,
        Self::Proxy,
        Self::Holder,
        Self::Signer,
        Self::Alive,
        Self::Subordinate,
        Self::Return,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparation => "preparation",
            Self::Server => "server",
            Self::Target => "target",
            Self::Settling => "settling",
            Self::Watcher => "watcher",
            Self::Proxy => "proxy",
            Self::Holder => "holder",
            Self::Signer => "signer",
            Self::Alive => "alive",
            Self::Subordinate => "subordinate",
            Self::Return => "return",
        }
    }

    /// Whether an operator may move the rotation in spite of it. Without keys or certificates there is
    /// nothing to move to.
    pub const fn may_be_forced(self) -> bool {
        !matches!(self, Self::Preparation | Self::Return)
    }
}

/// Who can change what holds a rotation back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// This server: it is at work.
    Rootbridge,
    Operator,
    /// Whoever runs the cluster.
    Cluster,
    /// The workload, when it renews, or its owner, who restarts it.
    Workload,
    /// The CA above the issuing key.
    UpstreamCa,
    /// Nobody: it ends with time.
    Time,
}

impl Whose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rootbridge => "rootbridge",
            Self::Operator => "operator",
            Self::Cluster => "cluster",
            Self::Workload => "workload",
            Self::UpstreamCa => "upstream CA",
            Self::Time => "time",
        }
    }
}

/// One thing that holds a rotation back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub condition: Condition,
    pub cluster: Option<String>,
    /// What holds it back: a target, a workload, a server.
    pub what: String,
    pub why: String,
    pub whose: Whose,
    /// When it ends at the latest, if that is known.
    #[serde(serialize_with = "time")]
    pub until: Option<UnixTime>,
}

fn time<S: serde::Serializer>(at: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cluster) = &self.cluster {
            write!(f, "cluster {cluster}: ")?;
        }
        write!(f, "{}: {}", self.what, self.why)?;
        match self.until {
            Some(until) => write!(f, " (until {until} at most)"),
            None => Ok(()),
        }
    }
}
