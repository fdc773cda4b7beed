//! CA certificates and requests on their way through the pipeline.

use super::error::IssueError;
use super::signable::{ReplayMismatch, Signable};
use crate::x509::{
    Certificate, CertificateSpec, PublicKey, SignatureAlgorithm, check_issued, check_request,
};

impl Signable for CertificateSpec {
    type Out = Certificate;

    fn check(self, tbs: &[u8], _: &[u8], der: Vec<u8>) -> Result<Certificate, IssueError> {
        let certificate = Certificate::parse_with_key(der, Some(&self.public_key))?;
        check_issued(&certificate, tbs, &self)?;
        Ok(certificate)
    }

    fn resume(&mut self, _: &[u8], _: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        // Ceremonies have no idempotency key: they find unfinished work by its key.
        Err(ReplayMismatch::DifferentRequest)
    }
}

/// A certification request for the key that signs it.
pub(super) struct Request {
    pub(super) public_key: PublicKey,
    pub(super) algorithm: SignatureAlgorithm,
}

impl Signable for Request {
    type Out = Vec<u8>;

    fn check(self, info: &[u8], signature: &[u8], der: Vec<u8>) -> Result<Vec<u8>, IssueError> {
        check_request(&der, info, self.algorithm, signature, &self.public_key)?;
        Ok(der)
    }

    fn resume(&mut self, _: &[u8], _: SignatureAlgorithm) -> Result<(), ReplayMismatch> {
        Err(ReplayMismatch::DifferentRequest)
    }
}
