//! Probes a cluster's API server in the background: metrics show the result, and the log its changes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::api::{ApiError, Bounds, get};
use super::cluster::Cluster;

const INTERVAL: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds {
    bytes: 64 * 1024,
    time: Duration::from_secs(5),
};

/// Probes until `stop`.
pub(super) async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let name = cluster.config().name();
    let mut was_up: Option<bool> = None;
    while !stop.is_cancelled() {
        let found = probe(&cluster).await;
        cluster.set_up(found.is_ok());
        if was_up != Some(found.is_ok()) {
            match &found {
                Ok(()) => tracing::info!(cluster = name, "the API server answers"),
                Err(why) => {
                    tracing::warn!(cluster = name, %why, "the API server does not answer as it should: the cluster is down");
                }
            }
            was_up = Some(found.is_ok());
        }
        // At the start the connection is made at the same time.
        let pause = match was_up {
            Some(true) => INTERVAL,
            _ => Duration::from_secs(1),
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn probe(cluster: &Cluster) -> Result<(), ApiError> {
    let client = cluster.connection().client().await?;
    match client.send(get("/version")?, BOUNDS).await {
        Ok(_) => {}
        // It answers, although this account may not read its version.
        Err(error) if error.code() == Some(403) => {}
        Err(error) => return Err(error),
    }
    client
        .distrusted()
        .map_or(Ok(()), |why| Err(ApiError::Distrusted(why)))
}
