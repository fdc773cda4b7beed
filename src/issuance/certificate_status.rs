//! The status of client certificates, from the ledger.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;

use super::shared_revision::SharedRevision;
use crate::authn::{CertificateStatus, CertificateStatusSource, LookupError, Pod};
use crate::ledger::{
    IssuerId, IssuerRecord, IssuerState, Ledger, LedgerError, Role, Snapshot, State,
};
use crate::x509::{Certificate, TrustDomain};

/// Reads the certificate's row, and the records when their revision has changed.
#[derive(Debug)]
pub struct LedgerStatusSource {
    ledger: Arc<dyn Ledger>,
    revision: SharedRevision,
    records: ArcSwapOption<Snapshot>,
}

impl LedgerStatusSource {
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            revision: SharedRevision::of(Arc::clone(&ledger)),
            records: ArcSwapOption::empty(),
            ledger,
        }
    }

    async fn records(&self, revision: u64) -> Result<Arc<Snapshot>, LedgerError> {
        if let Some(known) = self.records.load_full()
            && known.revision == revision
        {
            return Ok(known);
        }
        let records = Arc::new(self.ledger.snapshot().await?);
        self.records.store(Some(Arc::clone(&records)));
        Ok(records)
    }

    async fn status(
        &self,
        trust_domain: &TrustDomain,
        leaf: &Certificate,
        revision: u64,
    ) -> Result<Option<CertificateStatus>, LedgerError> {
        let records = self.records(revision).await?;
        let Some(authority) = records.authority(trust_domain) else {
            return Ok(None);
        };
        // A root signs CA certificates only, and no caller presents one.
        let issuing = |issuer: &&IssuerRecord| issuer.role == Role::Issuing;
        let mut issuers: Vec<_> = authority.issuers.iter().filter(issuing).collect();
        // That of most certificates first.
        issuers.sort_by_key(|issuer| issuer.state != IssuerState::Active);
        for issuer in issuers {
            let id: IssuerId = issuer.id.clone();
            let Some(row) = self.ledger.certificate(Some(id), leaf.serial()).await? else {
                continue;
            };
            // The serial number is not enough.
            if row.der()?.as_deref() != Some(leaf.der()) {
                continue;
            }
            return Ok(Some(CertificateStatus {
                released: row.state == State::Issued,
                // There is no revocation yet.
                revoked: false,
                issuer_retired: issuer.state == IssuerState::Retired,
                not_after: row.not_after.unwrap_or(leaf.not_before()),
                trust_domain: authority.trust_domain.clone(),
                subject: row.subject.clone(),
                token_authenticated_at: row.caller.token_authenticated_at,
                cluster: row.caller.cluster.clone(),
                pod: row.caller.pod.as_deref().and_then(recorded_pod),
            }));
        }
        Ok(None)
    }
}

/// A pod as it is recorded: `NAMESPACE/NAME UID`.
fn recorded_pod(text: &str) -> Option<Pod> {
    let (path, uid) = text.split_once(' ')?;
    let (namespace, name) = path.split_once('/')?;
    Some(Pod {
        name: name.to_owned(),
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
    })
}

impl CertificateStatusSource for LedgerStatusSource {
    fn revision(&self) -> BoxFuture<'_, Result<u64, LookupError>> {
        Box::pin(self.revision.read())
    }

    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>> {
        Box::pin(async move {
            self.status(trust_domain, leaf, revision)
                .await
                .map_err(|error| LookupError(error.to_string()))
        })
    }
}
