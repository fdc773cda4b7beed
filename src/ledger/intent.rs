//! Intents to sign, and their outcomes.

use std::fmt;
use std::str::FromStr;

use super::words::words;
use super::{CaCertificateId, IssuerId, WorkLease};
use crate::clock::UnixTime;
use crate::x509::{Serial, SignatureAlgorithm, TrustDomain};

/// The number of an intent; a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(i64);

impl IntentId {
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Leaf,
    Ca,
    /// A certification request (PKCS#10) for a CA key.
    Request,
}
words!(Kind, "kind", { Leaf => "leaf", Ca => "ca", Request => "request" });

/// The state of an intent: pending, then one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Recorded, not concluded.
    Pending,
    /// Signed and checked; the signature is on record.
    Issued,
    /// Never released, and most likely never signed.
    Failed,
    /// A signature may exist, and counts as made.
    Unknown,
}
words!(State, "state", {
    Pending => "pending", Issued => "issued", Failed => "failed", Unknown => "unknown",
});

/// How the caller was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerMethod {
    Jwt,
    Certificate,
    /// An operator's credential.
    Operator,
    /// This process itself.
    Local,
    /// A token that a cluster's API server accepted.
    TokenReview,
    /// A token verified with the keys of a cluster's API server.
    ClusterKeys,
    /// A Kubernetes object that names its creator.
    Object,
}
words!(CallerMethod, "method", {
    Jwt => "jwt", Certificate => "certificate", Operator => "operator", Local => "local",
    TokenReview => "token_review", ClusterKeys => "cluster_keys", Object => "object",
});

/// The caller, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRecord {
    /// The trust domain of the verifier that accepted the caller.
    pub trust_domain: TrustDomain,
    pub identity: String,
    pub method: CallerMethod,
    /// A token's issuer and key id, or a certificate's serial number.
    pub detail: String,
    pub cluster: Option<String>,
    /// Namespace, name and UID.
    pub pod: Option<String>,
    pub node: Option<String>,
    /// When the caller last authenticated by token.
    pub token_authenticated_at: Option<UnixTime>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    pub instance: String,
    /// Which start of the instance, counted from 1.
    pub boot: u64,
}

/// The record of a signature, written before the key signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub kind: Kind,
    pub issuer: IssuerId,
    /// The issuer's CA certificate, and with it the path, that is returned with the certificate.
    pub ca_certificate: Option<CaCertificateId>,
    /// A request has none.
    pub serial: Option<Serial>,
    /// The exact bytes to be signed, DER.
    pub tbs: Vec<u8>,
    pub algorithm: SignatureAlgorithm,
    pub not_before: Option<UnixTime>,
    pub not_after: Option<UnixTime>,
    /// The certified names, joined by a space, the primary one first.
    pub subject: String,
    pub profile: String,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Digest of the trust bundle that is returned with it.
    pub bundle_digest: Option<[u8; 32]>,
    pub caller: CallerRecord,
    pub request_id: String,
    pub epoch: Epoch,
    /// Unique; a repeated request with the same key gets what is on record.
    pub idempotency_key: Option<String>,
    pub recorded_at: UnixTime,
    /// It is recorded only while this lease has its holder; it is not on record itself.
    pub lease: Option<WorkLease>,
}

/// The result of [`Ledger::record`](super::Ledger::record).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The intent is durable and may be signed.
    New(IntentId),
    /// The idempotency key is on record with this intent.
    Existing {
        id: IntentId,
        tbs: Vec<u8>,
        issuer_id: IssuerId,
        algorithm: SignatureAlgorithm,
        ca_certificate: Option<CaCertificateId>,
        /// `None` while it is pending.
        outcome: Option<Outcome>,
    },
}

/// How an intent was concluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Signed and checked.
    Issued {
        /// As the certificate contains it.
        signature: Vec<u8>,
    },
    Failed {
        reason: String,
    },
    /// A signature may exist.
    Unknown {
        reason: String,
    },
}

impl Outcome {
    pub const fn state(&self) -> State {
        match self {
            Self::Issued { .. } => State::Issued,
            Self::Failed { .. } => State::Failed,
            Self::Unknown { .. } => State::Unknown,
        }
    }
}
