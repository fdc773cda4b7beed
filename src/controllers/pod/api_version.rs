//! Which version of PodCertificateRequest a cluster serves.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::core::ApiResource;

use crate::cluster::{ApiClient, ApiError};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "podcertificaterequests";
/// The newest first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The version that was discovered last.
#[derive(Debug)]
pub(super) struct ApiVersion(Mutex<&'static str>);

impl Default for ApiVersion {
    fn default() -> Self {
        Self(Mutex::new("v1"))
    }
}

impl ApiVersion {
    /// The newest version that the API server serves. v1 when it serves none: the list then fails with
    /// the API server's own message.
    pub(super) async fn discover(&self, client: &ApiClient) -> Result<ApiResource, ApiError> {
        for version in VERSIONS {
            let path = format!("/apis/{GROUP}/{version}");
            let served: Option<APIResourceList> = client.get_path(&path).await?;
            if served.is_some_and(|list| list.resources.iter().any(|r| r.name == RESOURCE)) {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = version;
                break;
            }
        }
        Ok(self.known())
    }

    /// The version discovered last.
    pub(super) fn known(&self) -> ApiResource {
        let version = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ApiResource {
            group: GROUP.to_owned(),
            version: version.to_owned(),
            api_version: format!("{GROUP}/{version}"),
            kind: "PodCertificateRequest".to_owned(),
            plural: RESOURCE.to_owned(),
        }
    }
}
