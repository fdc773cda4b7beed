//! One trust domain's authority, as it stands at one moment.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::IssueError;
use super::issuer::Issuer;
use crate::x509::{Csr, PublicKey, TrustBundle, TrustDomain};

/// The issuer and the bundle of a trust domain. Replaced as a whole when the records change, so
/// that a call that began with one never mixes it with the next.
#[derive(Debug)]
pub struct Authority {
    pub(super) trust_domain: TrustDomain,
    /// Or why there is none, and what mends it.
    pub(super) issuer: Result<Arc<Issuer>, String>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
    /// SHA-256 of the public keys that no leaf may have: every CA's that is known here.
    pub(super) taken: Arc<HashSet<[u8; 32]>>,
}

impl Authority {
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The issuer in force and the bundle that is answered with its certificates.
    pub(super) fn in_force(&self) -> Result<(Arc<Issuer>, Arc<TrustBundle>), IssueError> {
        let not_ready = |why: &str| IssueError::NotReady {
            trust_domain: self.trust_domain.clone(),
            why: why.to_owned(),
        };
        let issuer = self.issuer.as_ref().map_err(|why| not_ready(why))?;
        let bundle = self
            .bundle
            .as_ref()
            .ok_or_else(|| not_ready("it has no trust anchor"))?;
        Ok((Arc::clone(issuer), Arc::clone(bundle)))
    }

    /// Refuses the keys of CAs.
    pub(super) fn admit(&self, csr: &Csr) -> Result<(), IssueError> {
        match self.is_taken(csr.public_key()) {
            true => Err(IssueError::KeyTaken),
            false => Ok(()),
        }
    }

    fn is_taken(&self, key: &PublicKey) -> bool {
        self.taken.contains(&key.fingerprint())
    }
}
