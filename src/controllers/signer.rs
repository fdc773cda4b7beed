//! One signer in one cluster: a watch that fills a queue, and workers that empty it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::queue::SharedQueue;
use super::watch::{WatchHandler, watch};
use crate::cluster::{ApiClient, ApiError, Cluster, Collection};
use crate::log_limit::Interval;

/// Objects in progress at a time.
const WORKERS: usize = 16;
/// Objects in the queue; when it is full, the watch waits.
const BOUND: usize = 10_000;
/// For one object. Issuance continues after it, and the next attempt finds its certificate.
const DEADLINE: Duration = Duration::from_secs(30);

/// The least time between two warnings of one signer.
const WARN: Duration = Duration::from_secs(10);

/// How a signer answers one kind of object.
pub(super) trait Signer: Send + Sync + 'static {
    type Object: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static;

    /// In the configuration, for logs and metrics.
    fn name(&self) -> &str;

    fn cluster(&self) -> &Arc<Cluster>;

    fn collection(
        &self,
        client: &ApiClient,
    ) -> impl Future<Output = Result<Collection, ApiError>> + Send;

    /// Whether an object needs a certificate.
    fn needs_answer(&self, object: &Self::Object) -> bool;

    /// Answers one object and returns the result for the metrics; `None` when there was nothing to do.
    /// After an error the object is retried.
    fn handle(
        &self,
        client: &ApiClient,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<&'static str>, String>> + Send;
}

pub(super) fn start<W: Signer>(
    work: W,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let runner = Arc::new(Runner {
        work,
        queue: SharedQueue::new(BOUND),
        metrics: metrics.clone(),
        warnings: Interval::new(WARN),
    });
    let (watching, stopping) = (Arc::clone(&runner), stop.clone());
    tasks.spawn(async move {
        let cluster = Arc::clone(watching.work.cluster());
        watch(&*watching, &cluster, watching.work.name(), &stopping).await;
    });
    for _ in 0..WORKERS {
        let (runner, stop) = (Arc::clone(&runner), stop.clone());
        tasks.spawn(async move {
            loop {
                let key = tokio::select! {
                    () = stop.cancelled() => return,
                    key = runner.queue.next() => key,
                };
                runner.step(key).await;
            }
        });
    }
}

/// An object of a signer; the namespace is empty where its kind has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct NamespacedName {
    namespace: String,
    name: String,
}

struct Runner<W> {
    work: W,
    queue: SharedQueue<NamespacedName>,
    metrics: Metrics,
    /// Thousands of objects may wait for the same reason.
    warnings: Interval,
}

impl<W: Signer> Runner<W> {
    async fn step(&self, key: NamespacedName) {
        let (signer, cluster) = (self.work.name(), self.work.cluster().config().name());
        let outcome = match self.work.cluster().connection().client().await {
            Ok(client) => {
                let step = self.work.handle(&client, &key.namespace, &key.name);
                match tokio::time::timeout(DEADLINE, step).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(format!("not done within {}s", DEADLINE.as_secs())),
                }
            }
            Err(down) => Err(down.to_string()),
        };
        match outcome {
            Ok(result) => {
                if let Some(result) = result {
                    self.metrics.count(signer, cluster, result);
                }
                self.queue.done(&key);
            }
            Err(why) => {
                self.metrics.count(signer, cluster, "retried");
                let (namespace, name) = (&key.namespace, &key.name);
                match self.warnings.allow().is_some() {
                    true => tracing::warn!(
                        cluster,
                        signer,
                        namespace,
                        name,
                        why,
                        "not answered yet; it is retried, as are others"
                    ),
                    false => {
                        tracing::debug!(
                            cluster,
                            signer,
                            namespace,
                            name,
                            why,
                            "not answered yet; it is retried"
                        );
                    }
                }
                self.queue.retry(key);
            }
        }
        self.metrics.waiting(signer, cluster, self.queue.len());
    }
}

impl<W: Signer> WatchHandler for Runner<W> {
    type Object = W::Object;

    async fn collection(&self, client: &ApiClient) -> Result<Collection, ApiError> {
        self.work.collection(client).await
    }

    async fn on_object(&self, object: W::Object) {
        if !self.work.needs_answer(&object) {
            return;
        }
        let meta = object.meta();
        let key = NamespacedName {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        };
        self.queue.add(key).await;
        let (signer, cluster) = (self.work.name(), self.work.cluster().config().name());
        self.metrics.waiting(signer, cluster, self.queue.len());
    }

    fn set_up(&self, up: bool) {
        let cluster = self.work.cluster().config().name();
        self.metrics.watch(self.work.name(), cluster, up);
    }
}
