//! An issuer: a key in a token, with the certificate and the path that it signs under.

use crate::hsm::Key;
use crate::ledger::{CaCertificateId, IssuerId};
use crate::x509::{Certificate, IssuerIdentity};

/// A key that may sign, and what it signs as.
#[derive(Debug)]
pub struct Issuer {
    id: IssuerId,
    key: Key,
    certificate: Certificate,
    certificate_id: CaCertificateId,
    intermediates: Vec<Certificate>,
    identity: IssuerIdentity,
}

impl Issuer {
    /// An issuer under one of its CA certificates. `intermediates` lead from that certificate up
    /// to, but without, the trust anchor.
    pub(super) fn new(
        id: IssuerId,
        key: Key,
        certificate: Certificate,
        certificate_id: CaCertificateId,
        intermediates: Vec<Certificate>,
    ) -> Self {
        let identity = IssuerIdentity {
            name_der: certificate.subject_der().to_vec(),
            key_id: certificate.subject_key_id().unwrap_or_default().to_vec(),
            algorithm: key.algorithm(),
        };
        Self {
            id,
            key,
            certificate,
            certificate_id,
            intermediates,
            identity,
        }
    }

    /// The issuer's name in the ledger.
    pub fn id(&self) -> &IssuerId {
        &self.id
    }

    /// The CA certificate under which it signs.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// That certificate's row in the ledger.
    pub fn certificate_id(&self) -> CaCertificateId {
        self.certificate_id
    }

    /// The CA certificate, then the rest of the path without the trust anchor.
    pub fn path(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.intermediates)
    }

    /// Name, key identifier and algorithm as they stand in what it signs.
    pub(super) fn identity(&self) -> &IssuerIdentity {
        &self.identity
    }

    /// The key in the token.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}
