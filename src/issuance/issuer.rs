//! An issuer: a key in a token, with the certificate and the path that it signs under.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::hsm::Key;
use crate::ledger::{CaCertificateId, IssuerId};
use crate::x509::{Certificate, IssuerIdentity, remaining_path_len};

/// A key that may sign, and what it signs as.
#[derive(Debug)]
pub struct Issuer {
    id: IssuerId,
    key: Key,
    certificate: Certificate,
    certificate_id: CaCertificateId,
    intermediates: Vec<Certificate>,
    identity: Arc<IssuerIdentity>,
    begins: UnixTime,
    ends: UnixTime,
    room: Option<u8>,
}

impl Issuer {
    /// An issuer under one of its CA certificates. `intermediates` lead from that certificate up
    /// to, but without, `anchor`; `None` when its key is of a kind that no token signs with.
    pub(super) fn new(
        id: IssuerId,
        key: Key,
        certificate: Certificate,
        certificate_id: CaCertificateId,
        intermediates: Vec<Certificate>,
        anchor: Option<&Certificate>,
    ) -> Option<Self> {
        let mut identity = IssuerIdentity::of(&certificate)?;
        // A leaf is of use only while everything above it is valid, not its issuer alone.
        let above = || intermediates.iter().chain(anchor);
        let begins = above().map(Certificate::not_before);
        let begins = begins.fold(certificate.not_before(), UnixTime::max);
        let ends = above().map(Certificate::not_after);
        let ends = ends.fold(certificate.not_after(), UnixTime::min);
        let room = remaining_path_len(std::iter::once(&certificate).chain(above()));
        identity.public_key = key.public_key().clone();
        identity.not_after = Some(ends);
        Some(Self {
            id,
            key,
            certificate,
            certificate_id,
            intermediates,
            identity: Arc::new(identity),
            begins,
            ends,
            room,
        })
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

    /// The latest notBefore of the path, its anchor included.
    pub fn begins(&self) -> UnixTime {
        self.begins
    }

    /// The earliest notAfter of the path, its anchor included: nothing that it signs is valid
    /// for longer.
    pub fn ends(&self) -> UnixTime {
        self.ends
    }

    /// How many CAs may stand below it, its anchor asked as well; `None` when nothing limits that.
    pub fn remaining_path_len(&self) -> Option<u8> {
        self.room
    }

    /// Name, key identifier and algorithm as they stand in what it signs.
    pub(super) fn identity(&self) -> &Arc<IssuerIdentity> {
        &self.identity
    }

    /// The key in the token.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}
