//! Signs CertificateSigningRequests (certificates.k8s.io/v1), which istiod creates in its RA mode.

mod validate;

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use kube::Resource as _;

use super::config::CsrSigner;
use super::signer::Signer;
use super::signing_error::{Refusal, SigningError};
use crate::authn::Quoted;
use crate::cluster::{ApiClient, ApiError, Cluster, Collection};
use crate::issuance::{Authorities, Issued};

/// One `[csr_signers.*]` in one cluster.
#[derive(Debug)]
pub(super) struct CsrSigning {
    config: CsrSigner,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
}

impl CsrSigning {
    pub(super) fn new(
        config: CsrSigner,
        cluster: Arc<Cluster>,
        authorities: Arc<Authorities>,
    ) -> Self {
        Self {
            config,
            cluster,
            authorities,
        }
    }

    async fn certify(&self, csr: &CertificateSigningRequest) -> Result<Issued, SigningError> {
        let profile = self
            .authorities
            .profile(&self.config.profile)
            .ok_or_else(|| SigningError::Retry("the profile does not exist".to_owned()))?;
        let request = validate::validate(csr, &self.config, self.cluster.config(), &profile)?;
        Ok(self.authorities.issue(request).await?)
    }

    fn log_refusal(&self, name: &str, csr: &CertificateSigningRequest, refusal: &Refusal) {
        tracing::info!(
            cluster = self.cluster.config().name(),
            signer = self.config.name,
            object = name,
            requester = %Quoted(csr.spec.username.as_deref().unwrap_or_default()),
            reason = refusal.reason,
            error = refusal.message,
            "CertificateSigningRequest refused"
        );
    }
}

impl Signer for CsrSigning {
    type Object = CertificateSigningRequest;

    fn name(&self) -> &str {
        &self.config.name
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    async fn collection(&self, _: &ApiClient) -> Result<Collection, ApiError> {
        let signer = format!("spec.signerName={}", self.config.signer_name);
        Ok(Collection::new(path()).fields(signer))
    }

    fn needs_answer(&self, csr: &CertificateSigningRequest) -> bool {
        csr.spec.signer_name == self.config.signer_name && validate::is_open(csr)
    }

    async fn handle(
        &self,
        client: &ApiClient,
        _: &str,
        name: &str,
    ) -> Result<Option<&'static str>, String> {
        // It may have been denied, deleted or answered while it was in the queue.
        let found = client.get(&path(), name).await;
        let found: Option<CertificateSigningRequest> = found.map_err(|error| error.to_string())?;
        let Some(mut csr) = found.filter(|csr| self.needs_answer(csr)) else {
            return Ok(None);
        };
        let result = match self.certify(&csr).await {
            Ok(issued) => {
                let certificate = ByteString(issued.chain_pem().into_bytes());
                csr.status.get_or_insert_default().certificate = Some(certificate);
                "issued"
            }
            Err(SigningError::Retry(why)) => return Err(why),
            Err(SigningError::Refused(refusal)) => {
                self.log_refusal(name, &csr, &refusal);
                let status = csr.status.get_or_insert_default();
                status
                    .conditions
                    .get_or_insert_default()
                    .push(condition(refusal));
                "failed"
            }
        };
        // With the resourceVersion that was read: if the object has changed, this fails, and the next
        // attempt validates it again. The ledger keeps the certificate until then.
        let written = client.replace_status(&path(), name, &csr).await;
        written.map_err(|error| error.to_string())?;
        Ok(Some(result))
    }
}

fn path() -> String {
    CertificateSigningRequest::url_path(&(), None)
}

fn condition(refusal: Refusal) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: "Failed".to_owned(),
        status: "True".to_owned(),
        reason: Some(refusal.reason.to_owned()),
        message: Some(refusal.message),
        ..CertificateSigningRequestCondition::default()
    }
}
