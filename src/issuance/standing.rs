//! How a certificate that a caller presents stands in the ledger.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::authn::{IssuedCertificates, LookupError, Standing};
use crate::ledger::{IssuerId, IssuerState, Ledger, LedgerError, State};
use crate::x509::{Certificate, TrustDomain};

/// Answers from the ledger, at every call anew.
#[derive(Debug)]
pub struct LedgerStandings {
    ledger: Arc<dyn Ledger>,
}

impl LedgerStandings {
    /// Answers from `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    async fn standing(
        &self,
        trust_domain: &TrustDomain,
        leaf: &Certificate,
    ) -> Result<Option<Standing>, LedgerError> {
        let records = self.ledger.snapshot().await?;
        let Some(authority) = records.authority(trust_domain) else {
            return Ok(None);
        };
        for issuer in &authority.issuers {
            let id: IssuerId = issuer.id.clone();
            let Some(row) = self.ledger.certificate(Some(id), leaf.serial()).await? else {
                continue;
            };
            // Not only the serial: the very bytes.
            if row.der()?.as_deref() != Some(leaf.der()) {
                continue;
            }
            return Ok(Some(Standing {
                released: row.state == State::Issued,
                // There is no revocation yet: no row can say so.
                revoked: false,
                issuer_retired: issuer.state == IssuerState::Retired,
                not_after: row.not_after.unwrap_or(leaf.not_before()),
                trust_domain: authority.trust_domain.clone(),
                subject: row.subject.clone(),
                token_authenticated_at: row.caller.token_authenticated_at,
            }));
        }
        Ok(None)
    }
}

impl IssuedCertificates for LedgerStandings {
    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
    ) -> BoxFuture<'a, Result<Option<Standing>, LookupError>> {
        Box::pin(async move {
            self.standing(trust_domain, leaf)
                .await
                .map_err(|error| LookupError(error.to_string()))
        })
    }
}
