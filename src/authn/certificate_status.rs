//! What the ledger says of a certificate.

use futures_util::future::BoxFuture;

use super::caller::Pod;
use crate::clock::UnixTime;
use crate::x509::{Certificate, TrustDomain};

/// The status of issued certificates. The ledger implements it, in a higher layer.
pub trait CertificateStatusSource: Send + Sync + std::fmt::Debug {
    /// A number that changes with everything that may change the status of a certificate which was
    /// released. It is as of a moment after the call.
    fn revision(&self) -> BoxFuture<'_, Result<u64, LookupError>>;

    /// The status of the certificate with exactly `leaf`'s DER in `trust_domain`'s ledger, as of
    /// `revision` or later; `None` when the ledger does not hold it, whatever it holds under its serial
    /// number.
    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>>;
}

/// The ledger is unavailable. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Whether it was recorded as issued, so that its holder received it from this server.
    pub released: bool,
    pub revoked: bool,
    pub issuer_retired: bool,
    /// As recorded.
    pub not_after: UnixTime,
    /// That of the issuer that signed it.
    pub trust_domain: TrustDomain,
    /// Its names as recorded, joined by spaces, the primary one first.
    pub subject: String,
    /// When its holder last presented a token, inherited by all renewals since.
    pub token_authenticated_at: Option<UnixTime>,
    /// The cluster that verified that token, and the pod that it was bound to; inherited likewise.
    pub cluster: Option<String>,
    pub pod: Option<Pod>,
}
