//! Why no certificate was issued.

use std::time::Duration;

use super::admission::Limited;
use crate::clock::in_words;
use crate::hsm::SignError;
use crate::ledger::LedgerError;
use crate::policy::Denial;
use crate::x509::{CertError, IssuedError, TbsError, TrustDomain};

/// Why no certificate was issued. The text is for the log;
/// [`public_message`](Self::public_message) is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("no authority for the trust domain `{0}`: create one with `rootbridge ca init`")]
    NoAuthority(TrustDomain),
    /// Nothing was recorded; the caller may try again.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The authority exists but cannot sign now.
    #[error("the authority of `{trust_domain}` cannot sign: {why}")]
    NotReady {
        trust_domain: TrustDomain,
        /// What is missing, and what to do about it.
        why: String,
    },
    /// The same, because the token of its key is unavailable.
    #[error("the authority of `{trust_domain}` cannot sign: {why}")]
    KeyUnavailable {
        trust_domain: TrustDomain,
        /// Which key, and why.
        why: String,
    },
    #[error("denied: {0}")]
    Denied(#[from] Denial),
    /// No certificate with the name would verify.
    #[error("{name} is outside of what the issuing CA may certify: {why}")]
    NameRuledOut { name: String, why: String },
    #[error("the CSR's key is a key of a CA or of this server")]
    KeyReserved,
    /// The issuer's notAfter leaves too short a life for clients that renew at its middle: they
    /// would renew without a pause.
    #[error(
        "the issuing certificate expires in {}: that is less than twice the backdating of {}; \
         renew the issuing CA",
        in_words(*left), in_words(*backdate)
    )]
    IssuerExpiring { left: Duration, backdate: Duration },
    #[error(
        "a lifetime of {} is less than twice the backdating of {}: request a longer one",
        in_words(*requested), in_words(*backdate)
    )]
    TtlTooShort {
        requested: Duration,
        backdate: Duration,
    },
    #[error("the certificate could not be built: {0}")]
    Build(#[from] TbsError),
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Hsm(#[from] SignError),
    /// The HSM's signature does not make the certificate that was recorded.
    #[error("the signed certificate failed its check: {0}")]
    Check(#[from] IssuedError),
    #[error("the signed certificate is malformed: {0}")]
    Malformed(#[from] CertError),
    /// Ledger and HSM took longer than the caller may wait. The outcome is recorded all the same.
    #[error("not signed within {}ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the idempotency key `{0}` was used for another request")]
    IdempotencyKeyConflict(String),
    #[error(
        "the certificate recorded for the idempotency key `{0}` has expired, or its issuer has \
         changed"
    )]
    IdempotencyKeyExpired(String),
    #[error("the request with the idempotency key `{0}` is still in progress")]
    IdempotencyKeyPending(String),
    /// The task that records and signs panicked: a defect.
    #[error("the issuing task ended without a result")]
    TaskFailed,
}
