//! Calls a handler for each change of a collection in one cluster.

use std::future::Future;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::cluster::{
    ApiClient, ApiError, Cluster, Collection, Follower, Source, Versioned, WATCH_TIME, WatchEvent,
};

/// What to watch, and what to do with it.
pub(super) trait WatchHandler: Send + Sync {
    type Object: DeserializeOwned + Versioned + Send;

    fn collection(
        &self,
        client: &ApiClient,
    ) -> impl Future<Output = Result<Collection, ApiError>> + Send;

    /// An object exists, or has changed.
    fn on_object(&self, object: Self::Object) -> impl Future<Output = ()> + Send;

    fn on_deleted(&self, _object: Self::Object) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Whether the watch works, after each event.
    fn set_up(&self, up: bool);
}

impl<H: WatchHandler> Source for &H {
    async fn locate(&self, client: &ApiClient) -> Result<Collection, ApiError> {
        self.collection(client).await
    }
}

/// Watches until `stop`; `what` names the watch in the log.
pub(super) async fn watch<H: WatchHandler>(
    handler: &H,
    cluster: &Cluster,
    what: &str,
    stop: &CancellationToken,
) {
    let mut follower =
        Follower::<H::Object, _>::new(cluster.connection(), handler, what, WATCH_TIME);
    let follow = async {
        loop {
            match follower.next().await {
                WatchEvent::ListStarted => continue,
                WatchEvent::Listed(object) => {
                    handler.on_object(object).await;
                    continue;
                }
                WatchEvent::Failed(_) => {
                    handler.set_up(false);
                    continue;
                }
                WatchEvent::ListComplete(_) | WatchEvent::UpToDate(_) => {}
                WatchEvent::Changed(object) => handler.on_object(object).await,
                WatchEvent::Deleted(object) => handler.on_deleted(object).await,
            }
            handler.set_up(true);
        }
    };
    stop.run_until_cancelled(follow).await;
}
