//! Rows and reports that the ledger returns.

use super::{
    CaCertificateId, CallerRecord, Epoch, IntentId, IssuerId, Kind, LedgerError, Replication, State,
};
use crate::clock::UnixTime;
use crate::x509::{Serial, SignatureAlgorithm, assemble};

/// An intent and its outcome; the fields of [`Intent`](super::Intent) mean the same here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    pub id: IntentId,
    pub kind: Kind,
    pub issuer: IssuerId,
    pub ca_certificate: Option<CaCertificateId>,
    /// A request has none.
    pub serial: Option<Serial>,
    /// The certified names, joined by a space, the primary one first.
    pub subject: String,
    pub profile: String,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    pub bundle_digest: Option<[u8; 32]>,
    pub caller: CallerRecord,
    pub not_before: Option<UnixTime>,
    pub not_after: Option<UnixTime>,
    pub recorded_at: UnixTime,
    pub epoch: Epoch,
    pub request_id: String,
    pub idempotency_key: Option<String>,
    pub state: State,
    /// Why it failed or is unknown; remains when it was signed again later.
    pub reason: Option<String>,
    pub concluded_at: Option<UnixTime>,
    pub tbs: Vec<u8>,
    pub algorithm: SignatureAlgorithm,
    pub signature: Option<Vec<u8>>,
}

impl CertificateRow {
    /// The certificate or request in DER; `None` until it is issued.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`].
    pub fn der(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        self.signature
            .as_deref()
            .map(|signature| {
                assemble(&self.tbs, self.algorithm, signature).map_err(|error| {
                    LedgerError::Damaged(format!("intent {} does not assemble: {error}", self.id))
                })
            })
            .transpose()
    }
}

/// The result of [`Ledger::check`](super::Ledger::check).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    pub schema: u64,
    pub intents: u64,
    pub conclusions: u64,
    pub authorities: u64,
    pub revision: u64,
    /// One sentence each; empty for a valid store.
    pub problems: Vec<String>,
    /// Of a database; `None` for a file.
    pub replication: Option<Replication>,
}
