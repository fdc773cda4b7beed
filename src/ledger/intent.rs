//! What a key is about to sign, and what became of it.

use std::fmt;
use std::str::FromStr;

use super::{CaCertificateId, IssuerId};
use crate::clock::UnixTime;
use crate::x509::{Serial, SignatureAlgorithm, TrustDomain};

/// The number of an intent; a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(i64);

impl IntentId {
    /// The intent with this number, as an operator typed it.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives a fieldless enum its words: `as_str`, `Display`, and `FromStr` for what the store and the
/// command line say.
macro_rules! words {
    ($type:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word for it, in lower case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!(concat!("{:?} is no ", $what, ": it is one of", $(" ", $word),+), word)),
                }
            }
        }
    };
}
pub(super) use words;

/// What is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An end entity's certificate.
    Leaf,
    /// A CA certificate.
    Ca,
    /// A certification request (PKCS#10) for a CA key.
    Request,
}
words!(Kind, "kind", { Leaf => "leaf", Ca => "ca", Request => "request" });

/// What became of an intent (invariant I4: pending, then one of the others).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Recorded and not concluded.
    Pending,
    /// Signed, checked and on record.
    Issued,
    /// Certainly never released, and most likely never signed.
    Failed,
    /// Nobody knows whether a signature was made: it counts as made.
    Unknown,
}
words!(State, "state", {
    Pending => "pending", Issued => "issued", Failed => "failed", Unknown => "unknown",
});

/// How the caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerMethod {
    /// A token.
    Jwt,
    /// A TLS client certificate.
    Certificate,
    /// An operator's credential.
    Operator,
    /// This process itself, for its own needs.
    Local,
    /// A token that a cluster's API server accepted.
    TokenReview,
    /// A token that the keys of a cluster's API server verified.
    ClusterKeys,
    /// An object of Kubernetes that names its maker.
    Object,
}
words!(CallerMethod, "method", {
    Jwt => "jwt", Certificate => "certificate", Operator => "operator", Local => "local",
    TokenReview => "token_review", ClusterKeys => "cluster_keys", Object => "object",
});

/// Who asked, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRecord {
    /// The trust domain of the verifier that accepted the caller.
    pub trust_domain: TrustDomain,
    /// The authenticated identity.
    pub identity: String,
    /// How it was authenticated.
    pub method: CallerMethod,
    /// The token's issuer and key id, or the presented certificate's serial.
    pub detail: String,
    /// The cluster it runs in.
    pub cluster: Option<String>,
    /// The pod, by namespace, name and uid.
    pub pod: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// When it last proved itself by token.
    pub token_authenticated_at: Option<UnixTime>,
}

/// One start of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The instance's name.
    pub instance: String,
    /// Counts the instance's starts, from 1.
    pub boot: u64,
}

/// What is about to be signed: the exact bytes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What it is.
    pub kind: Kind,
    /// Whose key signs.
    pub issuer: IssuerId,
    /// The issuer's CA certificate (and with it the path) that is answered with it.
    pub ca_certificate: Option<CaCertificateId>,
    /// The serial number; a request has none.
    pub serial: Option<Serial>,
    /// The exact bytes to be signed, DER.
    pub tbs: Vec<u8>,
    /// With what algorithm.
    pub algorithm: SignatureAlgorithm,
    /// Start of validity.
    pub not_before: Option<UnixTime>,
    /// End of validity.
    pub not_after: Option<UnixTime>,
    /// The certified names, joined by a space, the primary one first.
    pub subject: String,
    /// The profile that allowed it.
    pub profile: String,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Digest of the trust bundle that is answered with it.
    pub bundle_digest: Option<[u8; 32]>,
    /// Who asked.
    pub caller: CallerRecord,
    /// The request's id in the logs.
    pub request_id: String,
    /// Which start of which instance does it.
    pub epoch: Epoch,
    /// Names the wish that led to it, once: a repetition gets what is on record.
    pub idempotency_key: Option<String>,
    /// When.
    pub recorded_at: UnixTime,
}

/// What [`Ledger::record`](super::Ledger::record) did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The intent is durable: it may be signed.
    New(IntentId),
    /// The origin was seen before; this is what was recorded then.
    Existing {
        /// The earlier intent.
        id: IntentId,
        /// The bytes that were to be signed.
        tbs: Vec<u8>,
        /// Whose key signs them.
        issuer_id: IssuerId,
        /// With what algorithm.
        algorithm: SignatureAlgorithm,
        /// The issuer's CA certificate recorded with it.
        ca_certificate: Option<CaCertificateId>,
        /// What became of it; `None` while it is pending.
        outcome: Option<Outcome>,
    },
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Signed, and the result checked.
    Issued {
        /// The signature as it stands in the certificate.
        signature: Vec<u8>,
    },
    /// Certainly not released.
    Failed {
        /// Why, for the log and the operator.
        reason: String,
    },
    /// A signature may exist.
    Unknown {
        /// Why it is not known.
        reason: String,
    },
}

impl Outcome {
    /// The state an intent has with this outcome.
    pub const fn state(&self) -> State {
        match self {
            Self::Issued { .. } => State::Issued,
            Self::Failed { .. } => State::Failed,
            Self::Unknown { .. } => State::Unknown,
        }
    }
}
