//! The authority of one trust domain.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::IssueError;
use super::issuer::Issuer;
use crate::x509::{PublicKey, TrustBundle, TrustDomain};

/// The issuer and the bundle of a trust domain. Replaced as a whole when the records change, so
/// that no request mixes two states.
#[derive(Debug)]
pub struct Authority {
    pub(super) trust_domain: TrustDomain,
    pub(super) issuer: Result<Arc<Issuer>, NoIssuer>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
    /// SHA-256 of the public keys of every known CA: no leaf may have one of them.
    pub(super) reserved: Arc<HashSet<[u8; 32]>>,
}

/// Why an authority cannot sign, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIssuer {
    #[error(
        "it has no active issuing CA: run `rootbridge ca init`, or `ca request` and `ca import`"
    )]
    NotRecorded,
    /// The token of the key is unavailable. A later refresh may find it.
    #[error("the key of its issuing CA is unavailable: {0}")]
    KeyUnavailable(String),
    #[error("its records cannot be used: {0}")]
    InvalidRecords(String),
}

impl Authority {
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The active issuer and the bundle returned with its certificates.
    pub(super) fn active_issuer(&self) -> Result<(Arc<Issuer>, Arc<TrustBundle>), IssueError> {
        let not_ready = |why: String| IssueError::NotReady {
            trust_domain: self.trust_domain.clone(),
            why,
        };
        let issuer = self.issuer.as_ref().map_err(|no| match no {
            NoIssuer::KeyUnavailable(_) => IssueError::KeyUnavailable {
                trust_domain: self.trust_domain.clone(),
                why: no.to_string(),
            },
            _ => not_ready(no.to_string()),
        })?;
        let bundle = self.bundle.as_ref();
        let bundle = bundle.ok_or_else(|| not_ready("it has no trust anchor".to_owned()))?;
        Ok((Arc::clone(issuer), Arc::clone(bundle)))
    }

    /// Whether `key` is a CA's.
    pub(super) fn is_reserved(&self, key: &PublicKey) -> bool {
        self.reserved.contains(&key.fingerprint())
    }
}
