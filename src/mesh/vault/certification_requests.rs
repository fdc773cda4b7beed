//! Certification requests for issuing keys, one for each: a client that asks for one at each election of
//! its leader gets the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::authn::Caller;
use crate::issuance::{Authorities, IssueError, Issuer};
use crate::x509::to_pem;

/// In memory: after a restart the first caller has one made again, for the same key.
#[derive(Debug, Default)]
pub(super) struct CertificationRequests(Mutex<BTreeMap<String, Arc<str>>>);

impl CertificationRequests {
    /// In PEM, for the active issuing key of the caller's trust domain.
    pub(super) async fn get(
        &self,
        authorities: &Authorities,
        issuer: &Issuer,
        caller: &Caller,
        request_id: &str,
    ) -> Result<Arc<str>, IssueError> {
        let mut made = self.0.lock().await;
        let id = format!("{} {}", caller.trust_domain, issuer.id());
        if let Some(pem) = made.get(&id) {
            return Ok(Arc::clone(pem));
        }
        let der = authorities
            .certification_request(caller, request_id)
            .await?;
        let pem: Arc<str> = to_pem("CERTIFICATE REQUEST", &der).into();
        // One issuer is active in a trust domain; those before it are asked for no more.
        let domain = format!("{} ", caller.trust_domain);
        made.retain(|id, _| !id.starts_with(&domain));
        made.insert(id, Arc::clone(&pem));
        Ok(pem)
    }
}
