//! CA certificates and certification requests.

use super::error::IssueError;
use super::signable::{ReplayMismatch, Signable};
use crate::clock::UnixTime;
use crate::x509::{
    CaTemplate, Certificate, Expected, IssuerIdentity, PublicKey, San, Serial, SignatureAlgorithm,
    check_issued, check_request,
};

/// A CA certificate to be signed.
pub(super) struct CaCertificate {
    pub(super) serial: Serial,
    pub(super) issuer: IssuerIdentity,
    pub(super) issuer_key: PublicKey,
    /// notAfter of the issuer's own certificate; `None` for a self-signed root.
    pub(super) issuer_not_after: Option<UnixTime>,
    pub(super) subject_der: Vec<u8>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) public_key: PublicKey,
    pub(super) path_len: Option<u8>,
    /// subjectAltName.
    pub(super) names: Vec<San>,
}

impl CaCertificate {
    pub(super) fn template(&self) -> CaTemplate<'_> {
        CaTemplate {
            serial: &self.serial,
            issuer: &self.issuer,
            subject_der: &self.subject_der,
            not_before: self.not_before,
            not_after: self.not_after,
            public_key: &self.public_key,
            path_len: self.path_len,
            names: &self.names,
        }
    }
}

impl Signable for CaCertificate {
    type Out = Certificate;

    fn check(self, tbs: &[u8], _: &[u8], der: Vec<u8>) -> Result<Certificate, IssueError> {
        let certificate = Certificate::parse(der)?;
        let expected = Expected::ca(&self.template(), self.issuer_not_after);
        check_issued(&certificate, tbs, &self.issuer_key, &expected)?;
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
