//! Requests to an upstream CA for the certificate of an issuing key.

use std::fmt;
use std::str::FromStr;

use super::issuer_key::{IssuerId, KeyLocation};
use super::words::words;
use crate::clock::UnixTime;
use crate::x509::{KeyKind, TrustDomain};

/// The row number of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaRequestId(i64);

impl CaRequestId {
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for CaRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaRequestState {
    /// Its key may exist; nothing was sent for certain.
    Prepared,
    /// It was sent or is about to be, and no answer is on record: it may be sent once more.
    Submitted,
    /// The upstream CA has it and decides later.
    Pending,
    /// The certificates are here; they wait until their root is approved and published.
    Received,
    Activated,
    Refused,
    Cancelled,
}
words!(CaRequestState, "state of a request", {
    Prepared => "prepared",
    Submitted => "submitted",
    Pending => "pending",
    Received => "received",
    Activated => "activated",
    Refused => "refused",
    Cancelled => "cancelled",
});

impl CaRequestState {
    /// Whether it is in flight.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Activated | Self::Refused | Self::Cancelled)
    }
}

/// A request, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaRequestRecord {
    pub id: CaRequestId,
    /// The upstream's name in the configuration.
    pub upstream: String,
    pub state: CaRequestState,
    /// Where the key is, or will be once it is generated.
    pub location: KeyLocation,
    pub kind: KeyKind,
    /// The pathLenConstraint to request.
    pub path_len: Option<u8>,
    /// Once the key exists.
    pub issuer: Option<IssuerId>,
    /// The PKCS#10 request (DER), from the first submission on.
    pub csr: Option<Vec<u8>>,
    /// The upstream CA's own name for the request.
    pub reference: Option<String>,
    /// What the upstream CA answered with; only while it is [`CaRequestState::Received`].
    pub certificates: Vec<Vec<u8>>,
    /// Why the last attempt led nowhere, or why the request ended.
    pub problem: Option<String>,
    /// Attempts since the state was reached.
    pub attempts: u32,
    /// The instance that is making an attempt, or died during one.
    pub attempt_by: Option<String>,
    /// When the next attempt is made; during one, when another instance may make it.
    pub next_attempt_at: UnixTime,
    pub created_at: UnixTime,
    pub created_by: String,
    /// When the state was reached.
    pub changed_at: UnixTime,
    pub ended_at: Option<UnixTime>,
}

/// A change of a request. Each is refused unless the request is in a state that it can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaRequestChange {
    /// Begins a request, and records the key's CKA_ID before the key is generated. Refused while
    /// another request of the authority is in flight.
    Begin {
        trust_domain: TrustDomain,
        upstream: String,
        location: KeyLocation,
        kind: KeyKind,
        path_len: Option<u8>,
        /// A key that exists already.
        issuer: Option<IssuerId>,
    },
    /// The key exists: it becomes a pending issuer.
    AddKey {
        request: CaRequestId,
        public_key: Vec<u8>,
        /// CKA_ID as the token has it.
        key_id: Vec<u8>,
    },
    /// The token has something with the recorded CKA_ID that is no usable key, as after a generation that
    /// was interrupted: the key gets another CKA_ID. Refused when the key exists.
    Relocate {
        request: CaRequestId,
        key_id: Vec<u8>,
        reason: String,
    },
    /// The request is about to be sent for the first time.
    Submit { request: CaRequestId, csr: Vec<u8> },
    /// The upstream CA decides later.
    Wait {
        request: CaRequestId,
        reference: String,
    },
    /// The upstream CA no longer knows the reference: the request is sent again.
    Resubmit { request: CaRequestId },
    /// The upstream CA has answered with these certificates (DER).
    Receive {
        request: CaRequestId,
        certificates: Vec<Vec<u8>>,
    },
    /// An attempt begins, which nobody else makes until then. `attempts` are those before it: refused
    /// if there was another. It is no operator's action, and does not change the records' revision.
    Attempt {
        request: CaRequestId,
        attempts: u32,
        /// The instance that makes it.
        by: String,
        until: UnixTime,
    },
    /// Nothing has changed, or the attempt failed. It is no operator's action, and does not change the
    /// records' revision.
    Retry {
        request: CaRequestId,
        at: UnixTime,
        problem: Option<String>,
    },
    /// Ends the request.
    End {
        request: CaRequestId,
        state: CaRequestState,
        reason: String,
    },
}
