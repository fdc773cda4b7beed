//! How a certificate that a caller presents stands in the ledger.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;

use crate::authn::{CertificateStatus, IssuedCertificates, LookupError};
use crate::ledger::{
    IssuerId, IssuerRecord, IssuerState, Ledger, LedgerError, Role, Snapshot, State,
};
use crate::x509::{Certificate, TrustDomain};

/// Answers from the ledger, at every call anew: the row is read each time, the records are read
/// again when their revision says that they have changed.
#[derive(Debug)]
pub struct LedgerStatusSource {
    ledger: Arc<dyn Ledger>,
    records: ArcSwapOption<Snapshot>,
}

impl LedgerStatusSource {
    /// Answers from `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        let records = ArcSwapOption::empty();
        Self { ledger, records }
    }

    async fn records(&self) -> Result<Arc<Snapshot>, LedgerError> {
        let revision = self.ledger.revision().await?;
        if let Some(known) = self.records.load_full()
            && known.revision == revision
        {
            return Ok(known);
        }
        let records = Arc::new(self.ledger.snapshot().await?);
        self.records.store(Some(Arc::clone(&records)));
        Ok(records)
    }

    async fn standing(
        &self,
        trust_domain: &TrustDomain,
        leaf: &Certificate,
    ) -> Result<Option<CertificateStatus>, LedgerError> {
        let records = self.records().await?;
        let Some(authority) = records.authority(trust_domain) else {
            return Ok(None);
        };
        // What a root signed is a CA's: nobody calls with it.
        let issuing = |issuer: &&IssuerRecord| issuer.role == Role::Issuing;
        for issuer in authority.issuers.iter().filter(issuing) {
            let id: IssuerId = issuer.id.clone();
            let Some(row) = self.ledger.certificate(Some(id), leaf.serial()).await? else {
                continue;
            };
            // Not only the serial: the very bytes.
            if row.der()?.as_deref() != Some(leaf.der()) {
                continue;
            }
            return Ok(Some(CertificateStatus {
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

impl IssuedCertificates for LedgerStatusSource {
    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>> {
        Box::pin(async move {
            self.standing(trust_domain, leaf)
                .await
                .map_err(|error| LookupError(error.to_string()))
        })
    }
}
