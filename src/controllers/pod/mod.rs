//! PodCertificateRequests (KEP-4317): certificates that the kubelet mounts into pods.

mod api;
mod status;
mod validate;

use std::sync::Arc;

use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};

use super::config::PodSigner;
use super::http::told;
use super::signer::Work;
use super::signing_error::{Refusal, SigningError};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::issuance::Authorities;

/// One `[pod_signers.*]` in one cluster.
#[derive(Debug)]
pub(super) struct PodWork {
    config: PodSigner,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    version: api::Version,
}

impl PodWork {
    /// Will sign the requests of `cluster`.
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
            version: api::Version::default(),
        }
    }

    /// The status of an object that was issued for.
    async fn certify(&self, found: &api::Found) -> Result<serde_json::Value, SigningError> {
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
            server: found.server,
        };
        let valid = validate::validate(&found.object, &self.config, cluster, &profile)?;
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
            message = refusal.message,
            "PodCertificateRequest refused"
        );
    }
}

impl Work for PodWork {
    type Object = DynamicObject;

    fn name(&self) -> &str {
        &self.config.name
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    async fn api(&self, client: Client) -> Result<Api<DynamicObject>, kube::Error> {
        let resource = self.version.discover(&client).await?;
        Ok(Api::all_with(client, &resource))
    }

    fn selector(&self) -> String {
        format!("spec.signerName={}", self.config.signer_name)
    }

    fn wants(&self, object: &DynamicObject) -> bool {
        validate::is_open(object)
    }

    async fn handle(
        &self,
        client: Client,
        namespace: &str,
        name: &str,
    ) -> Result<Option<&'static str>, String> {
        let resource = self.version.known();
        let read = api::read(&client, &resource, namespace, name).await;
        let read = read.map_err(|error| told(&error))?;
        let Some(mut found) = read.filter(|found| validate::is_open(&found.object)) else {
            return Ok(None);
        };
        let (status, result) = match self.certify(&found).await {
            Ok(status) => (status, "issued"),
            Err(SigningError::Retry(why)) => return Err(why),
            Err(SigningError::Refused(refusal)) => {
                self.log_refusal(namespace, name, &refusal);
                let result = if refusal.denied { "denied" } else { "failed" };
                (status::refused(&refusal, found.server), result)
            }
        };
        if let Some(data) = found.object.data.as_object_mut() {
            data.insert("status".to_owned(), status);
        }
        // With the version that was read: the status is written once, by whoever comes first.
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let written = api
            .replace_status(name, &PostParams::default(), &found.object)
            .await;
        written.map_err(|error| told(&error))?;
        Ok(Some(result))
    }
}
