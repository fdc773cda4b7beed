//! What the pipeline can sign: a leaf certificate, a CA certificate, a certification request.

use super::error::IssueError;
use crate::x509::SignatureAlgorithm;

pub(super) trait Signable: Send + 'static {
    type Out: Send + 'static;

    /// Checks the signed `der` against what was granted, including its signature.
    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Self::Out, IssueError>;

    /// Takes over what an earlier request with the same idempotency key recorded.
    fn resume(&mut self, _: &[u8], _: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        // Ceremonies have no idempotency key: they find unfinished work by its key.
        Err(ReplayMismatch::DifferentRequest)
    }
}

/// Why an earlier record does not answer a repeated idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplayMismatch {
    DifferentRequest,
    /// The recorded certificate has expired or is about to.
    Expired,
}
