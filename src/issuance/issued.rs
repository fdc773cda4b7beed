//! An issued certificate with the path and the bundle that belong to it.

use std::sync::Arc;

use super::issuer::Issuer;
use crate::x509::{Certificate, TrustBundle};

/// A certificate whose issuance is recorded. Issuer and bundle are those that it was issued with,
/// so the parts verify together whatever happens to the authority meanwhile.
#[derive(Debug)]
pub struct Issued {
    pub(super) certificate: Certificate,
    pub(super) issuer: Arc<Issuer>,
    pub(super) bundle: Arc<TrustBundle>,
}

impl Issued {
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// From the certificate's issuer up to, but without, the trust anchor.
    pub fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        self.issuer.path()
    }

    /// The certificate, then its intermediates.
    pub fn chain(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(self.intermediates())
    }

    /// The chain as PEM, the leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain().map(Certificate::to_pem).collect()
    }

    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }
}
