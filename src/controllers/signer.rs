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

/// How many objects are worked on at once.
const WORKERS: usize = 16;
/// How many keys the queue holds; beyond it the watch waits, and what it misses is listed.
const BOUND: usize = 10_000;
/// For one object, from the first request to the last. Issuance goes on without it, and the next
/// try finds what it made.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two warnings of one signer.
const WARN: Duration = Duration::from_secs(10);

/// What a signer does with one kind of object.
pub(super) trait Work: Send + Sync + 'static {
    /// The kind of object.
    type Object: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static;

    /// Its name in the configuration, for logs and metrics.
    fn name(&self) -> &str;

    /// The cluster that it works in.
    fn cluster(&self) -> &Arc<Cluster>;

    /// The objects of this signer.
    fn collection(
        &self,
        client: &ApiClient,
    ) -> impl Future<Output = Result<Collection, ApiError>> + Send;

    /// Whether there is anything to do for an object.
    fn wants(&self, object: &Self::Object) -> bool;

    /// Brings one object to its end, or says why not yet. `None`: there was nothing to do.
    fn handle(
        &self,
        client: &ApiClient,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<&'static str>, String>> + Send;
}

/// Begins to work until `stop`.
pub(super) fn start<W: Work>(
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

impl<W: Work> Runner<W> {
    async fn step(&self, key: NamespacedName) {
        let (signer, cluster) = (self.work.name(), self.work.cluster().config().name());
        let outcome = match self.work.cluster().connection().client() {
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
                        "no answer yet; tried again later, as are others"
                    ),
                    false => {
                        tracing::debug!(cluster, signer, namespace, name, why, "tried again later");
                    }
                }
                self.queue.retry(key);
            }
        }
        self.metrics.waiting(signer, cluster, self.queue.len());
    }
}

impl<W: Work> WatchHandler for Runner<W> {
    type Object = W::Object;

    async fn collection(&self, client: &ApiClient) -> Result<Collection, ApiError> {
        self.work.collection(client).await
    }

    async fn on_object(&self, object: W::Object) {
        if !self.work.wants(&object) {
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
