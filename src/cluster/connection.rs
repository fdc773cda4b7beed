//! The connection to a cluster's API server: a client for the current kubeconfig, replaced when it or a
//! file that it names changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::api::ApiClient;
use super::bounded_file::read_text;
use super::config::ClusterConfig;
use super::error::ClusterUnavailable;
use super::kubeconfig::{KubeconfigError, in_cluster, parse};
use super::target::Target;
use crate::clock::Clock;
use crate::digest::sha256;

/// How often the kubeconfig is read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client waits for the first reading, which takes milliseconds unless a disk hangs.
const FIRST_READ: Duration = Duration::from_secs(5);

pub struct Connection {
    config: ClusterConfig,
    clock: Arc<dyn Clock>,
    client: ArcSwap<Result<ApiClient, String>>,
    /// What the client was made from.
    used: Mutex<Option<Used>>,
    /// Whether the kubeconfig has been read, with whatever result.
    is_read: watch::Sender<bool>,
}

/// SHA-256 of what may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    kubeconfig: [u8; 32],
    /// The same with the files that it names.
    target: [u8; 32],
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.cluster())
    }
}

impl Connection {
    pub(super) fn new(config: ClusterConfig, clock: Arc<dyn Clock>) -> Self {
        let unread = "its kubeconfig has not been read yet".to_owned();
        Self {
            config,
            clock,
            client: ArcSwap::from_pointee(Err(unread)),
            used: Mutex::new(None),
            is_read: watch::Sender::new(false),
        }
    }

    /// The cluster's name in the configuration.
    pub fn cluster(&self) -> &str {
        self.config.name()
    }

    /// A client for the API server, which may not be reachable. Fails without a usable kubeconfig. Waits
    /// for its first reading, at a start.
    pub async fn client(&self) -> Result<ApiClient, ClusterUnavailable> {
        let mut is_read = self.is_read.subscribe();
        // What has not been read by then is an error like others.
        let _ = tokio::time::timeout(FIRST_READ, is_read.wait_for(|is_read| *is_read)).await;
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
            self.is_read.send_replace(true);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
        }
    }

    async fn reload(&self) {
        let is_connected = self.client.load().is_ok();
        let before = *self.lock();
        let (kubeconfig, target) = self.read().await;
        let next = match target {
            Ok(target) => {
                let now = Used {
                    kubeconfig: kubeconfig.unwrap_or_default(),
                    target: target.digest,
                };
                if is_connected && before == Some(now) {
                    return;
                }
                *self.lock() = Some(now);
                ApiClient::new(self.config.name(), target, Arc::clone(&self.clock))
            }
            Err(why) => {
                // The file may be missing while it is replaced, and a certificate and its key are
                // replaced one after the other: keep a client that works.
                let is_same = |hash| before.is_some_and(|before| before.kubeconfig == hash);
                if is_connected && kubeconfig.is_none_or(is_same) {
                    let cluster = self.config.name();
                    tracing::debug!(cluster, why, "the kubeconfig cannot be read");
                    return;
                }
                Err(why)
            }
        };
        self.set(next);
    }

    /// The digest of the kubeconfig, if it can be read at all, and what it says.
    async fn read(&self) -> (Option<[u8; 32]>, Result<Target, String>) {
        match self.config.kubeconfig() {
            None => {
                let target = in_cluster(&variable).await;
                (Some([0; 32]), target.map_err(|error| error.to_string()))
            }
            Some(path) => {
                let named = |why: KubeconfigError| format!("kubeconfig {}: {why}", path.display());
                match read_text(path).await {
                    Err(why) => (None, Err(format!("kubeconfig {why}"))),
                    Ok(text) => {
                        let target = parse(&self.config, path, &text, &variable).await;
                        (Some(sha256(text.as_bytes())), target.map_err(named))
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A client for the cluster as its kubeconfig is now.
pub async fn connect_once(
    config: &ClusterConfig,
    clock: Arc<dyn Clock>,
) -> Result<ApiClient, String> {
    let connection = Connection::new(config.clone(), clock);
    let (_, target) = connection.read().await;
    ApiClient::new(config.name(), target?, Arc::clone(&connection.clock))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
