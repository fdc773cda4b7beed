//! The cluster that this process runs in, as a pod sees it.

use std::path::{Path, PathBuf};

use http::HeaderMap;

use super::address::{Variable, proxy_of_environment, server, server_name};
use super::error::KubeconfigError;
use crate::cluster::bounded_file::read_bytes;
use crate::cluster::identity::certificates;
use crate::cluster::target::{Access, Target};
use crate::digest::sha256;

const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server of the pod's cluster, with the pod's service account.
pub(in crate::cluster) async fn in_cluster(
    variable: Variable<'_>,
) -> Result<Target, KubeconfigError> {
    let set = |name: &'static str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.ok_or(KubeconfigError::NotInPod(match name {
            "KUBERNETES_SERVICE_HOST" => "KUBERNETES_SERVICE_HOST is not set",
            _ => "KUBERNETES_SERVICE_PORT is not set",
        }))
    };
    let host = set("KUBERNETES_SERVICE_HOST")?;
    let port = set("KUBERNETES_SERVICE_PORT")?;
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    let server = server(&format!("https://{host}:{port}"))?;
    let field = "ca.crt";
    let ca = read_bytes(&Path::new(DIRECTORY).join(field)).await?;
    let invalid = |why: String| KubeconfigError::Authority { field, why };
    let authorities = certificates(&ca).map_err(|why| invalid(why.to_string()))?;
    if authorities.is_empty() {
        return Err(KubeconfigError::NoAuthority(field));
    }
    Ok(Target {
        server_name: server_name(&server, None)?,
        proxy: proxy_of_environment(&server, variable)?,
        digest: sha256(&[server.to_string().as_bytes(), &ca].concat()),
        server,
        authorities: Some(authorities),
        identity: None,
        access: Access::TokenFile {
            path: PathBuf::from(DIRECTORY).join("token"),
            token: None,
        },
        headers: HeaderMap::new(),
    })
}
