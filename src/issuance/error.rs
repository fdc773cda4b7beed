//! Why no certificate was issued.

use std::time::Duration;

use crate::hsm::SignError;
use crate::ledger::LedgerError;
use crate::policy::Denial;
use crate::x509::{CertError, IssuedError, TbsError, TrustDomain};

/// The one cause of a refusal or failure; each API maps it to its codes in `mesh::status`.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The caller's trust domain is none of this server's.
    #[error("no authority for the trust domain `{0}`: create one with `rootbridge ca init`")]
    NoAuthority(TrustDomain),
    /// The authority exists but cannot sign now.
    #[error("the authority of `{trust_domain}` cannot sign: {why}")]
    NotReady {
        /// The trust domain of the caller.
        trust_domain: TrustDomain,
        /// What is missing and what mends it.
        why: String,
    },
    /// Policy says no.
    #[error("denied: {0}")]
    Denied(#[from] Denial),
    /// The CSR is for a key of a CA or of this server.
    #[error("the CSR's key is a key of a CA or of this server")]
    KeyReserved,
    /// Clamped to the issuer's end, the certificate would live too short for clients that renew
    /// at the middle of its life: they would ask again without a pause.
    #[error(
        "the issuing certificate ends in {}s: what is left is less than twice the backdating of {}s; \
         renew the issuing CA",
        left.as_secs(), backdate.as_secs()
    )]
    IssuerExpiring {
        /// Time until the issuing certificate's notAfter.
        left: Duration,
        /// The profile's backdating.
        backdate: Duration,
    },
    /// The lifetime asked for is too short for the profile's backdating.
    #[error(
        "a lifetime of {}s is less than twice the backdating of {}s: ask for more",
        asked.as_secs(), backdate.as_secs()
    )]
    TtlTooShort {
        /// What was asked for.
        asked: Duration,
        /// The profile's backdating.
        backdate: Duration,
    },
    /// The TBSCertificate could not be built.
    #[error("the certificate could not be built: {0}")]
    Build(#[from] TbsError),
    /// The ledger did not take the record.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The HSM did not sign.
    #[error("HSM: {0}")]
    Hsm(#[from] SignError),
    /// The HSM's signature does not make the certificate that was recorded.
    #[error("the signed certificate failed its check: {0}")]
    Check(#[from] IssuedError),
    /// What was signed cannot be put together or parsed.
    #[error("the signed certificate is malformed: {0}")]
    Malformed(#[from] CertError),
    /// Ledger and HSM took longer than the caller may wait; the record is concluded all the same.
    #[error("not signed within {}ms", .0.as_millis())]
    Timeout(Duration),
    /// The same idempotency key was used for another request.
    #[error("the idempotency key `{0}` was used for another request")]
    IdempotencyKeyConflict(String),
    /// The same idempotency key was answered long ago, or by another issuer.
    #[error("what was recorded for the idempotency key `{0}` has ended, or its issuer has changed")]
    IdempotencyKeyExpired(String),
    /// The same idempotency key is being worked on.
    #[error("the request with the idempotency key `{0}` is still under way")]
    IdempotencyKeyPending(String),
    /// The task between record and conclusion died: a defect.
    #[error("the issuing task ended without a result")]
    TaskFailed,
}
