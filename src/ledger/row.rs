//! What the ledger shows of its rows.

use super::{CaCertificateId, CallerRecord, Epoch, IntentId, IssuerId, Kind, LedgerError, State};
use crate::clock::UnixTime;
use crate::x509::{Serial, SignatureAlgorithm, assemble};

/// An intent and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Number of the intent.
    pub id: IntentId,
    /// What it is.
    pub kind: Kind,
    /// Whose key signs.
    pub issuer: IssuerId,
    /// The issuer's CA certificate recorded with it.
    pub ca_certificate: Option<CaCertificateId>,
    /// The serial number; a request has none.
    pub serial: Option<Serial>,
    /// The certified names, joined by a space, the primary one first.
    pub subject: String,
    /// The profile that allowed it.
    pub profile: String,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Digest of the trust bundle recorded with it.
    pub bundle_digest: Option<[u8; 32]>,
    /// Who asked.
    pub caller: CallerRecord,
    /// Start of validity.
    pub not_before: Option<UnixTime>,
    /// End of validity.
    pub not_after: Option<UnixTime>,
    /// When it was recorded.
    pub recorded_at: UnixTime,
    /// Which start of which instance did it.
    pub epoch: Epoch,
    /// The request's id in the logs.
    pub request_id: String,
    /// The wish that led to it.
    pub idempotency_key: Option<String>,
    /// What became of it.
    pub state: State,
    /// Why it failed or is unknown; kept when it was signed again later.
    pub reason: Option<String>,
    /// When it was concluded.
    pub concluded_at: Option<UnixTime>,
    /// The bytes that were to be signed.
    pub tbs: Vec<u8>,
    /// With what algorithm.
    pub algorithm: SignatureAlgorithm,
    /// The signature, once issued.
    pub signature: Option<Vec<u8>>,
}

impl CertificateRow {
    /// The certificate (or request) itself in DER; `None` until it is issued.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] when the stored parts do not make one.
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

/// What an examination of the store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The store's schema version.
    pub schema: u64,
    /// Intents on record.
    pub intents: u64,
    /// Conclusions on record.
    pub conclusions: u64,
    /// Authorities on record.
    pub authorities: u64,
    /// Revision of the records.
    pub revision: u64,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}
