//! Keys that a ceremony is about to generate, or has generated without recording them.

use super::issuer_key::{KeyLocation, Role};
use crate::clock::UnixTime;
use crate::x509::{KeyKind, TrustDomain};

/// A key that is planned, and neither recorded as an issuer's nor dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedKey {
    pub role: Role,
    /// Where the key is, or will be once it is generated.
    pub location: KeyLocation,
    pub kind: KeyKind,
    /// The pathLenConstraint to request.
    pub path_len: Option<u8>,
    pub planned_at: UnixTime,
    pub planned_by: String,
}

/// A change of a planned key, which its token and the planned CKA_ID name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedKeyChange {
    /// A key with this CKA_ID is about to be generated.
    Plan {
        trust_domain: TrustDomain,
        role: Role,
        location: KeyLocation,
        kind: KeyKind,
        path_len: Option<u8>,
    },
    /// The key exists: it becomes a pending issuer. No error if this key is recorded for the plan
    /// already: another process has found it.
    Record {
        token: String,
        planned_id: Vec<u8>,
        public_key: Vec<u8>,
        /// CKA_ID as the token has it.
        key_id: Vec<u8>,
    },
    /// The key will not be used. No error if it is dropped already.
    Drop { token: String, planned_id: Vec<u8> },
}
