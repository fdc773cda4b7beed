//! The connection to a cluster's API server: a client for the current kubeconfig, replaced when the file
//! changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::CancellationToken;

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
    /// SHA-256 of the kubeconfig in use, which may hold a credential.
    read: Mutex<Option<[u8; 32]>>,
}

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
        let same = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            let now = sha256(text.as_deref().unwrap_or_default().as_bytes());
            read.replace(now) == Some(now)
        };
        if same && self.client.load().is_ok() {
            return;
        }
        self.set(self.connect(text.as_deref()).await);
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
