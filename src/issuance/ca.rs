//! CA certificates that a ceremony signs, and certification requests.

use super::error::IssueError;
use super::signable::Signable;
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
}
