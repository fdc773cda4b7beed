//! Rotations: the change of a root or of an issuing CA, from its preparation to the last of what it
//! replaces.

use std::fmt;
use std::str::FromStr;

use super::issuer_key::IssuerId;
use super::words::words;
use crate::clock::UnixTime;
use crate::x509::{KeyKind, TrustDomain};

/// The row number of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RotationId(i64);

impl RotationId {
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a rotation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationKind {
    /// A new root of this authority, with a new issuing CA below it.
    NewRoot,
    /// The same, with keys of another kind.
    KeyAlgorithm,
    /// A new issuing CA under the same root.
    NewIssuer,
    /// A new issuing CA that an upstream CA certifies, under that CA's root.
    UpstreamRoot,
    /// A root leaves the bundle, and nothing takes its place.
    RootLeaves,
}
words!(RotationKind, "kind of rotation", {
    NewRoot => "new-root",
    KeyAlgorithm => "key-algorithm",
    NewIssuer => "new-issuer",
    UpstreamRoot => "upstream-root",
    RootLeaves => "root-leaves",
});

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RotationPhase {
    /// The keys and CA certificates are made.
    Prepare,
    /// The bundle contains what arrives and what leaves; not every server has it yet.
    Publish,
    /// Verifiers receive that bundle.
    Converge,
    /// The new issuing CA signs; not on every server yet.
    Activate,
    /// Certificates below what leaves expire.
    Drain,
    /// What leaves is retired; clusters receive the bundle without it.
    Retire,
    Done,
    /// It went back: what was to arrive is gone.
    Withdrawn,
}
words!(RotationPhase, "phase of a rotation", {
    Prepare => "prepare",
    Publish => "publish",
    Converge => "converge",
    Activate => "activate",
    Drain => "drain",
    Retire => "retire",
    Done => "done",
    Withdrawn => "withdrawn",
});

impl RotationPhase {
    /// Whether the rotation goes on.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Done | Self::Withdrawn)
    }
}

/// One move of a rotation. Steps are only added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStep {
    pub phase: RotationPhase,
    pub backwards: bool,
    pub at: UnixTime,
    pub by: String,
    /// Why it was made although something held it back.
    pub forced: Option<String>,
}

/// What is on record of the keys and roots of a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationParts {
    /// The issuing CA that signs before, and after if the rotation goes back.
    pub old_issuer: Option<IssuerId>,
    /// SHA-256 of its anchor, or of the root that leaves.
    pub old_anchor: Option<[u8; 32]>,
    pub new_issuer: Option<IssuerId>,
    /// The same as `old_anchor` when the root stays.
    pub new_anchor: Option<[u8; 32]>,
}

impl RotationParts {
    /// Whether the bundle changes.
    pub fn changes_roots(&self) -> bool {
        self.old_anchor != self.new_anchor
    }
}

/// A rotation, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationRecord {
    pub id: RotationId,
    pub trust_domain: TrustDomain,
    pub kind: RotationKind,
    pub phase: RotationPhase,
    /// It goes back: what arrived leaves.
    pub backwards: bool,
    pub parts: RotationParts,
    /// The kind of the new keys.
    pub key: KeyKind,
    /// Where they are made: the token's name in the configuration.
    pub token: String,
    pub started_at: UnixTime,
    pub started_by: String,
    /// When the phase was reached.
    pub changed_at: UnixTime,
    pub ended_at: Option<UnixTime>,
    /// Oldest first; the first is the start.
    pub steps: Vec<RotationStep>,
}

/// A change of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationChange {
    /// Starts one. Refused while another of the authority is open.
    Begin {
        trust_domain: TrustDomain,
        kind: RotationKind,
        /// [`RotationPhase::Prepare`], or [`RotationPhase::Drain`] for a root that leaves.
        phase: RotationPhase,
        parts: RotationParts,
        key: KeyKind,
        token: String,
    },
    /// Its new issuing CA and root are known.
    Prepared {
        rotation: RotationId,
        new_issuer: IssuerId,
        new_anchor: [u8; 32],
    },
    /// Moves it. Refused if it is not in the phase `from`. A move to [`RotationPhase::Retire`] that is
    /// not forced is refused while a certificate is alive whose issuing CA or anchor leaves.
    Move {
        rotation: RotationId,
        from: RotationPhase,
        to: RotationPhase,
        backwards: bool,
        /// Why it is made although something holds it back.
        forced: Option<String>,
    },
}

/// Which certificates [`Ledger::live_certificates`](super::Ledger::live_certificates) looks for:
/// those that may be valid at `now`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveFilter {
    pub trust_domain: TrustDomain,
    pub now: UnixTime,
    pub which: Live,
    /// How many rows are returned; all are counted.
    pub limit: u32,
}

/// See [`LiveFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// Signed by one of these issuers, or below this anchor.
    Below {
        issuers: Vec<IssuerId>,
        anchor: Option<[u8; 32]>,
    },
    /// Returned with a bundle without this anchor (SHA-256), and not replaced: the newest certificate of the
    /// same name and pod has the same fault, or is younger than `received_before`. Without a pod, each
    /// certificate counts by itself.
    WithoutAnchor {
        anchor: [u8; 32],
        /// What was issued before then has arrived: a client that got no answer would have asked again.
        received_before: UnixTime,
    },
}

/// Live certificates of one name, cluster and pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveHolder {
    /// A CA certificate: its holder may issue more.
    pub is_ca: bool,
    /// The certified names.
    pub subject: String,
    pub cluster: Option<String>,
    /// Namespace, name and UID.
    pub pod: Option<String>,
    /// SHA-256 of the certified key, of the newest.
    pub spki_sha256: [u8; 32],
    pub certificates: u64,
    /// The last notAfter.
    pub until: UnixTime,
    /// When the newest was recorded.
    pub newest: UnixTime,
}

/// The answer to a [`LiveFilter`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveCertificates {
    /// Those that live longest first.
    pub holders: Vec<LiveHolder>,
    /// How many there are, without the limit.
    pub total: u64,
    /// When the last of all has expired.
    pub until: Option<UnixTime>,
}

impl Live {
    /// What lives below the issuer and the root that leave.
    pub fn below(parts: &RotationParts, backwards: bool) -> Self {
        let (issuer, anchor, stays) = match backwards {
            false => (&parts.old_issuer, parts.old_anchor, parts.new_anchor),
            true => (&parts.new_issuer, parts.new_anchor, parts.old_anchor),
        };
        Self::Below {
            issuers: issuer.iter().cloned().collect(),
            anchor: anchor.filter(|anchor| Some(*anchor) != stays),
        }
    }
}
