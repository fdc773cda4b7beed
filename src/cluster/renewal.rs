//! Renewal by certificate: whether the account, and the pod where it is known, still exist.

use std::time::Duration;

use serde::Deserialize;

use super::api::ApiError;
use super::cluster::Cluster;
use super::clusters::Clusters;
use crate::authn::{AuthnError, Caller, Identity, Pod};

/// For both requests to an API server.
const TIME: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Object {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    uid: String,
}

impl Clusters {
    /// Rejects the holder of a certificate whose account or pod is gone from its cluster. A cluster that
    /// cannot be asked decides nothing: `reauthenticate_after` bounds the certificate then.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`].
    pub async fn check_renewal(&self, caller: &Caller) -> Result<(), AuthnError> {
        let cluster = caller.cluster.as_deref().and_then(|name| self.get(name));
        let (Some(cluster), Identity::Workload(id)) = (cluster, &caller.identity) else {
            return Ok(());
        };
        let Some((namespace, account)) = id.as_service_account() else {
            return Ok(());
        };
        let pod = caller.pod.as_ref();
        let gone = match cluster.watched(namespace, account, pod) {
            Some(gone) => gone,
            None => {
                let asked = cluster.asked(namespace, account, pod);
                let asked = tokio::time::timeout(TIME, asked).await;
                match asked.unwrap_or(Err(ApiError::Timeout(TIME))) {
                    Ok(gone) => gone,
                    Err(error) => {
                        let name = cluster.config().name();
                        tracing::debug!(cluster = name, %error, "a renewal was not compared");
                        return Ok(());
                    }
                }
            }
        };
        match gone {
            None => Ok(()),
            Some(what) => Err(AuthnError::rejected(format_args!(
                "client certificate of {id}: its {what} is gone from cluster {}",
                cluster.config().name()
            ))),
        }
    }
}

impl Cluster {
    /// By the index; `None` where there is none, or it is not up to date.
    fn watched(
        &self,
        namespace: &str,
        account: &str,
        pod: Option<&Pod>,
    ) -> Option<Option<&'static str>> {
        let index = self.index()?;
        let silent = index.time_since_contact()?;
        if silent > self.config().callers().watch_silence() {
            return None;
        }
        if index.account(namespace, account).is_none() {
            return Some(Some("account"));
        }
        let is_gone = pod.is_some_and(|pod| {
            index
                .pod(&pod.namespace, &pod.name)
                .is_none_or(|found| !found.has_uid(&pod.uid))
        });
        Some(is_gone.then_some("pod"))
    }

    /// By the API server, where this server's account may read accounts and pods.
    async fn asked(
        &self,
        namespace: &str,
        account: &str,
        pod: Option<&Pod>,
    ) -> Result<Option<&'static str>, ApiError> {
        let client = self.connection().client().await?;
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        if client.get::<Object>(&accounts, account).await?.is_none() {
            return Ok(Some("account"));
        }
        let Some(pod) = pod else {
            return Ok(None);
        };
        let pods = format!("/api/v1/namespaces/{}/pods", pod.namespace);
        let found = client.get::<Object>(&pods, &pod.name).await?;
        let is_same = found.is_some_and(|found| found.metadata.uid == pod.uid);
        Ok((!is_same).then_some("pod"))
    }
}
