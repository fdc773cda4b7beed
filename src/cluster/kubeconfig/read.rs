//! From a kubeconfig's text to what a client needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::address::{Variable, proxy, server, server_name};
use super::document::{Cluster, Document, Secret};
use super::error::KubeconfigError;
use super::material::{Field, Material};
use super::user::{access, client_certificate, impersonation};
use crate::cluster::bounded_file::read_text;
use crate::cluster::config::ClusterConfig;
use crate::cluster::exec::Plugin;
use crate::cluster::identity::certificates;
use crate::cluster::target::{Access, Target};
use crate::digest::sha256;

/// What the kubeconfig of a cluster says. `variable` is the process environment.
pub async fn read(
    config: &ClusterConfig,
    path: &Path,
    variable: Variable<'_>,
) -> Result<Target, KubeconfigError> {
    parse(config, path, &read_text(path).await?, variable).await
}

/// The same for the content of the file at `path`.
pub(in crate::cluster) async fn parse(
    config: &ClusterConfig,
    path: &Path,
    text: &str,
    variable: Variable<'_>,
) -> Result<Target, KubeconfigError> {
    let document = Document::parse(text)?;
    let (cluster, mut user) = document.select(config.context())?;
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err(KubeconfigError::Insecure);
    }
    let ca = Field {
        name: "certificate-authority",
        data_name: "certificate-authority-data",
        path: cluster.certificate_authority.as_deref(),
        data: cluster.certificate_authority_data.as_ref(),
    };
    let written = cluster
        .server
        .as_deref()
        .filter(|server| !server.is_empty());
    let server = server(written.ok_or(KubeconfigError::NoServer)?)?;
    let ca = ca.read(&directory).await?;
    let authorities = ca.as_ref().map(authorities).transpose()?;
    let identity = client_certificate(&user, &directory).await?;
    let headers = impersonation(&user)?;
    let mut access = access(&user, &directory)?;
    // With another credential it is not run: client-go's rule.
    let has_other = identity.is_some() || !matches!(access, Access::None);
    if let Some(request) = user.exec.take().filter(|_| !has_other) {
        let info = cluster_info(&cluster, ca.as_ref());
        let plugin = Plugin::new(request, config.exec(), config.name(), &directory, info)?;
        access = Access::Exec(Arc::new(plugin));
    }
    let ca_digest = ca.map_or([0; 32], |ca| sha256(&ca.content));
    let (identity, identity_digest) = identity.unzip();
    let digests = [
        sha256(text.as_bytes()),
        ca_digest,
        identity_digest.unwrap_or_default(),
    ];
    let proxy_url = cluster.proxy_url.as_ref().map(Secret::expose);
    Ok(Target {
        server_name: server_name(&server, cluster.tls_server_name.as_deref())?,
        proxy: proxy(proxy_url, &server, variable)?,
        server,
        authorities,
        identity: identity.map(Arc::new),
        access,
        headers,
        digest: sha256(&digests.concat()),
    })
}

fn authorities(
    ca: &Material,
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, KubeconfigError> {
    let field = ca.field;
    let found = certificates(&ca.content).map_err(|why| KubeconfigError::Authority {
        field,
        why: why.to_string(),
    })?;
    match found.is_empty() {
        true => Err(KubeconfigError::NoAuthority(field)),
        false => Ok(found),
    }
}

/// The `cluster` of an ExecCredential's spec, for a program with `provideClusterInfo`.
fn cluster_info(cluster: &Cluster, ca: Option<&Material>) -> Value {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Value::from);
    let fields = [
        ("server", text(cluster.server.as_deref())),
        ("tls-server-name", text(cluster.tls_server_name.as_deref())),
        (
            "certificate-authority-data",
            ca.map(|ca| STANDARD.encode(ca.content.as_slice()).into()),
        ),
        (
            "proxy-url",
            text(cluster.proxy_url.as_ref().map(Secret::expose)),
        ),
        (
            "disable-compression",
            cluster
                .disable_compression
                .filter(|off| *off)
                .map(Value::from),
        ),
        ("config", cluster.exec_extension().cloned()),
    ];
    let fields = fields.into_iter();
    let set = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(set.collect())
}
