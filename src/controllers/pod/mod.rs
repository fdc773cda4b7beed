//! Signs PodCertificateRequests (KEP-4317), whose certificates the kubelet mounts into pods.

mod api_version;
mod status;
mod validate;

use std::sync::Arc;

use kube::Resource as _;
use kube::core::DynamicObject;

use self::api_version::ApiVersion;
use super::config::PodSigner;
use super::signer::Signer;
use super::signing_error::{Refusal, SigningError};
use crate::clock::{Clock, UnixTime};
use crate::cluster::{ApiClient, ApiError, Cluster, Collection};
use crate::issuance::Authorities;

/// One `[pod_signers.*]` in one cluster.
#[derive(Debug)]
pub(super) struct PodSigning {
    config: PodSigner,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    version: ApiVersion,
}

impl PodSigning {
    pub(super) fn new(
        config: PodSigner,
        cluster: Arc<Cluster>,
        authorities: Arc<Authorities>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            cluster,
            authorities,
            clock,
            version: ApiVersion::default(),
        }
    }

    /// Issues the certificate and returns the object's new status.
    async fn certify(
        &self,
        object: &DynamicObject,
        server_time: UnixTime,
    ) -> Result<serde_json::Value, SigningError> {
        let cluster = self.cluster.config();
        let profile = self
            .authorities
            .profile(&self.config.profile)
            .ok_or_else(|| SigningError::Retry("the profile does not exist".to_owned()))?;
        let (issuer, _) = self
            .authorities
            .active_issuer(cluster.trust_domain())
            .ok_or_else(|| SigningError::Retry("the authority cannot sign".to_owned()))?;
        let clocks = validate::Clocks {
            now: self.clock.now(),
            server: server_time,
        };
        let valid = validate::validate(object, &self.config, cluster, &profile)?;
        let request = valid.request(&profile, &issuer, clocks)?;
        let issued = self.authorities.issue(request).await?;
        status::issued(&issued, &valid, clocks.server)
    }

    fn log_refusal(&self, namespace: &str, name: &str, refusal: &Refusal) {
        tracing::info!(
            cluster = self.cluster.config().name(),
            signer = self.config.name,
            namespace,
            object = name,
            reason = refusal.reason,
            error = refusal.message,
            "PodCertificateRequest refused"
        );
    }
}

impl Signer for PodSigning {
    type Object = DynamicObject;

    fn name(&self) -> &str {
        &self.config.name
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    async fn collection(&self, client: &ApiClient) -> Result<Collection, ApiError> {
        let resource = self.version.discover(client).await?;
        let signer = format!("spec.signerName={}", self.config.signer_name);
        Ok(Collection::new(DynamicObject::url_path(&resource, None)).fields(signer))
    }

    fn needs_answer(&self, object: &DynamicObject) -> bool {
        validate::is_open(object)
    }

    async fn handle(
        &self,
        client: &ApiClient,
        namespace: &str,
        name: &str,
    ) -> Result<Option<&'static str>, String> {
        let path = DynamicObject::url_path(&self.version.known(), Some(namespace));
        let read = client.get_with_date(&path, name).await;
        let read = read.map_err(|error| error.to_string())?;
        let Some((mut object, server_time)) = read.filter(|(object, _)| validate::is_open(object))
        else {
            return Ok(None);
        };
        let (status, result) = match self.certify(&object, server_time).await {
            Ok(status) => (status, "issued"),
            Err(SigningError::Retry(why)) => return Err(why),
            Err(SigningError::Refused(refusal)) => {
                self.log_refusal(namespace, name, &refusal);
                let result = if refusal.denied { "denied" } else { "failed" };
                (status::refused(&refusal, server_time), result)
            }
        };
        if let Some(data) = object.data.as_object_mut() {
            data.insert("status".to_owned(), status);
        }
        // With the resourceVersion that was read: the status is written once.
        let written = client.replace_status(&path, name, &object).await;
        written.map_err(|error| error.to_string())?;
        Ok(Some(result))
    }
}
