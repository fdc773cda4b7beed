//! What passes through the pipeline: a leaf, a CA certificate, a request.

use super::error::IssueError;
use crate::x509::SignatureAlgorithm;

/// What to make once it is signed.
pub(super) trait Signable: Send + 'static {
    type Out: Send + 'static;

    /// Checks `der` against what was granted, the signature included.
    fn check(self, tbs: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Self::Out, IssueError>;

    /// Takes on what was recorded earlier for the same origin.
    fn resume(&mut self, tbs: &[u8], algorithm: SignatureAlgorithm) -> Result<(), ReplayMismatch>;
}

/// Why an earlier record does not answer a repeated origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplayMismatch {
    /// It was made for another wish.
    DifferentRequest,
    /// What it is about has ended, or is about to.
    Expired,
}
