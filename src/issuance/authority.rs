//! One trust domain's authority, as it stands at one moment.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::IssueError;
use super::issuer::Issuer;
use crate::x509::{PublicKey, TrustBundle, TrustDomain};

/// The issuer and the bundle of a trust domain. Replaced as a whole when the records change, so
/// that a call that began with one never mixes it with the next.
#[derive(Debug)]
pub struct Authority {
    pub(super) trust_domain: TrustDomain,
    pub(super) issuer: Result<Arc<Issuer>, NoIssuer>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
    /// SHA-256 of the public keys that no leaf may have: every CA's that is known here.
    pub(super) taken: Arc<HashSet<[u8; 32]>>,
}

/// Why an authority cannot sign, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIssuer {
    /// No record says who should.
    #[error(
        "it has no active issuing CA: run `rootbridge ca init`, or `ca request` and `ca import`"
    )]
    NotOnRecord,
    /// The recorded issuer's key cannot be had from its token now. It is tried again.
    #[error("the key of its issuing CA is not to be had: {0}")]
    NoKey(String),
    /// The records cannot be used as they are.
    #[error("its records cannot be used: {0}")]
    Unusable(String),
}

impl Authority {
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The issuer in force and the bundle that is answered with its certificates.
    pub(super) fn active_issuer(&self) -> Result<(Arc<Issuer>, Arc<TrustBundle>), IssueError> {
        let not_ready = |why: String| IssueError::NotReady {
            trust_domain: self.trust_domain.clone(),
            why,
        };
        let issuer = self
            .issuer
            .as_ref()
            .map_err(|why| not_ready(why.to_string()))?;
        let bundle = self
            .bundle
            .as_ref()
            .ok_or_else(|| not_ready("it has no trust anchor".to_owned()))?;
        Ok((Arc::clone(issuer), Arc::clone(bundle)))
    }

    /// Whether `key` is a CA's.
    pub(super) fn is_reserved(&self, key: &PublicKey) -> bool {
        self.taken.contains(&key.fingerprint())
    }
}
