//! Certificates for keys of this server itself. The keys are made here, in software.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use super::authorities::Authorities;
use super::error::IssueError;
use super::issued::Issued;
use super::request::{IssuanceRequest, Naming};
use crate::authn::Caller;
use crate::ledger::WorkLease;
use crate::policy::Scope;
use crate::x509::{Csr, CsrError, San, Serial, TrustDomain};

/// A request for a new key and its certificate. A rule of the policy must allow the names to
/// `local:PURPOSE`.
#[derive(Debug)]
pub struct OwnKeyRequest<'a> {
    pub trust_domain: &'a TrustDomain,
    pub purpose: &'static str,
    /// The cluster that the certificate is for; it is only recorded.
    pub cluster: Option<&'a str>,
    pub profile: &'a str,
    pub names: &'a [San],
    /// Shortened to the profile's limit; `None` for the profile's default.
    pub ttl: Option<Duration>,
    /// Whether it is a CA below the issuing CA, instead of a leaf.
    pub is_ca: bool,
    /// On the work that the certificate is for.
    pub lease: Option<WorkLease>,
}

#[derive(Debug, thiserror::Error)]
pub enum OwnKeyError {
    #[error("key or request: {0}")]
    Key(#[from] rcgen::Error),
    #[error("request: {0}")]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Authorities {
    /// Makes a key pair, issues a certificate for it, and refuses other requests for that key
    /// from now on.
    pub async fn issue_own_key(
        &self,
        request: OwnKeyRequest<'_>,
    ) -> Result<(Zeroizing<KeyPair>, Issued), OwnKeyError> {
        let key = Zeroizing::new(KeyPair::generate()?);
        let csr = CertificateParams::default().serialize_request(&*key)?;
        let profile = self.profile(request.profile);
        let limit = profile.map_or(Duration::MAX, |profile| profile.max_ttl());
        let mut caller = Caller::local(request.trust_domain.clone(), request.purpose);
        caller.cluster = request.cluster.map(ToOwned::to_owned);
        let issuance = IssuanceRequest {
            caller,
            csr: Csr::from_der(csr.der())?,
            profile: request.profile.to_owned(),
            names: request.names.to_vec(),
            ttl: request.ttl.map(|ttl| ttl.min(limit)),
            scope: Scope::Requested,
            naming: Naming::Spiffe,
            node_authorization: None,
            idempotency_key: None,
            request_id: format!("{}-{}", request.purpose, Serial::new(self.now())),
            lease: request.lease,
        };
        let issued = match request.is_ca {
            false => self.issue(issuance).await?,
            true => self.issue_subordinate(issuance).await?,
        };
        self.reserve_key(issued.certificate().public_key());
        Ok((key, issued))
    }
}
