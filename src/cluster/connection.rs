//! The connection to a cluster's API server: a client for the current kubeconfig, replaced when it or a
//! file that it names changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::api::ApiClient;
use super::config::ClusterConfig;
use super::error::ClusterUnavailable;
use crate::digest::sha256;
use crate::error_chain::error_chain;

/// How often the kubeconfig is read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// For the TCP and TLS handshakes; requests have deadlines of their own.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Connection {
    config: ClusterConfig,
    client: ArcSwap<Result<ApiClient, String>>,
    read: Mutex<Option<Read>>,
}

/// SHA-256 of what the client was made from, which may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    kubeconfig: [u8; 32],
    /// Of the contents of the files that it names.
    files: [u8; 32],
}

/// Where a pod finds the CA of its cluster; kube reads the token beside it again by itself.
const POD_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

impl Connection {
    pub(super) fn new(config: ClusterConfig) -> Self {
        Self {
            config,
            client: ArcSwap::from_pointee(Err("not connected yet".to_owned())),
            read: Mutex::new(None),
        }
    }

    /// The cluster's name in the configuration.
    pub fn cluster(&self) -> &str {
        self.config.name()
    }

    /// A client for the API server, which may not be reachable. Fails without a usable kubeconfig.
    pub fn client(&self) -> Result<ApiClient, ClusterUnavailable> {
        match &**self.client.load() {
            Ok(client) => Ok(client.clone()),
            Err(why) => Err(ClusterUnavailable {
                cluster: self.config.name().to_owned(),
                why: why.clone(),
            }),
        }
    }

    /// Follows the kubeconfig until `stop`.
    pub(super) async fn follow_kubeconfig(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.reload().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
        }
    }

    async fn reload(&self) {
        let text = match self.config.kubeconfig() {
            Some(path) => tokio::fs::read_to_string(path)
                .await
                .map(Some)
                .map_err(|error| format!("kubeconfig {}: {error}", path.display())),
            None => Ok(None),
        };
        let text = match text {
            Ok(text) => text,
            // Keep a client that works: the file may be missing while it is replaced.
            Err(why) if self.client.load().is_ok() => {
                tracing::debug!(
                    cluster = self.config.name(),
                    why,
                    "the kubeconfig cannot be read"
                );
                return;
            }
            Err(why) => return self.set(Err(why)),
        };
        let now = Read {
            kubeconfig: sha256(text.as_deref().unwrap_or_default().as_bytes()),
            files: digest_of_files(text.as_deref()).await,
        };
        let before = self.lock().replace(now);
        let is_connected = self.client.load().is_ok();
        if before == Some(now) && is_connected {
            return;
        }
        let next = self.connect(text.as_deref()).await;
        if let Err(why) = &next
            && is_connected
            && before.is_some_and(|before| before.kubeconfig == now.kubeconfig)
        {
            // A certificate and its key are replaced one after the other: try again.
            tracing::debug!(
                cluster = self.config.name(),
                why,
                "a file that the kubeconfig names cannot be used"
            );
            *self.lock() = before;
            return;
        }
        self.set(next);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, kubeconfig: Option<&str>) -> Result<ApiClient, String> {
        let config = client_config(&self.config, kubeconfig).await?;
        ApiClient::new(config)
    }

    fn set(&self, next: Result<ApiClient, String>) {
        let cluster = self.config.name();
        match (&**self.client.load(), &next) {
            (Err(before), Err(why)) if before == why => return,
            (_, Err(why)) => tracing::warn!(cluster, why, "the cluster cannot be reached"),
            (_, Ok(_)) => tracing::info!(cluster, "the cluster's kubeconfig is in use"),
        }
        self.client.store(Arc::new(next));
    }
}

/// The digest of every file that a kubeconfig, or a pod's own configuration, leads to. A file that
/// cannot be read counts as empty: connecting names it.
async fn digest_of_files(kubeconfig: Option<&str>) -> [u8; 32] {
    let mut digests = Vec::new();
    for path in files(kubeconfig) {
        let content = Zeroizing::new(tokio::fs::read(path).await.unwrap_or_default());
        digests.extend(sha256(&content));
    }
    sha256(&digests)
}

/// Files that kube reads once. It reads token files again by itself.
fn files(kubeconfig: Option<&str>) -> Vec<String> {
    let Some(text) = kubeconfig else {
        return vec![POD_CA.to_owned()];
    };
    let Ok(kubeconfig) = Kubeconfig::from_yaml(text) else {
        return Vec::new();
    };
    let clusters = kubeconfig.clusters.into_iter();
    let authorities = clusters.filter_map(|named| named.cluster?.certificate_authority);
    let users = kubeconfig.auth_infos.into_iter();
    let users = users.filter_map(|named| named.auth_info);
    let credentials = users.flat_map(|user| [user.client_certificate, user.client_key]);
    authorities.chain(credentials.flatten()).collect()
}

/// The configuration for a kubeconfig's text or, without one, for a pod of the cluster.
pub(super) async fn client_config(
    cluster: &ClusterConfig,
    kubeconfig: Option<&str>,
) -> Result<Config, String> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| error_chain(&error))?,
        Some(text) => {
            // The parser's errors quote the text, which may be a credential.
            let file = Kubeconfig::from_yaml(text).map_err(|_| {
                "it is not a valid kubeconfig; `kubectl config view` shows where".to_owned()
            })?;
            let options = KubeConfigOptions {
                context: cluster.context().map(str::to_owned),
                ..KubeConfigOptions::default()
            };
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| error_chain(&error))?
        }
    };
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        return Err(
            "its user runs a program for its credential (exec or auth-provider), which \
             Rootbridge never does; give it a client certificate or a tokenFile"
                .to_owned(),
        );
    }
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err("its certificate-authority holds no certificate".to_owned());
    }
    if config.cluster_url.scheme_str() != Some("https") {
        return Err(
            "its server is not https: an attacker could authenticate any workload".to_owned(),
        );
    }
    if config.accept_invalid_certs {
        return Err(
            "insecure-skip-tls-verify: an attacker could authenticate any workload; give \
             certificate-authority-data"
                .to_owned(),
        );
    }
    config.connect_timeout = Some(CONNECT);
    // Callers decide what to retry, and until when.
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_kubeconfig_is_followed() {
        let text = "clusters: [{name: c, cluster: {server: 'https://c', certificate-authority: /ca}}]\n\
                    users: [{name: u, user: {client-certificate: /crt, client-key: /key}}]\n";
        assert_eq!(files(Some(text)), ["/ca", "/crt", "/key"]);
        assert_eq!(files(None), [POD_CA]);
        assert!(files(Some("not a kubeconfig")).is_empty());
    }
}
