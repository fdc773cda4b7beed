//! Whether a cluster's API server answers, looked at in the background: metrics show it, and the
//! log says when it changes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::api::{ApiError, Bounds, get};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds {
    bytes: 64 * 1024,
    time: Duration::from_secs(5),
};

/// Probes until `stop`.
pub(super) async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let name = cluster.config.name();
    let mut answered: Option<bool> = None;
    while !stop.is_cancelled() {
        let found = probe(&cluster).await;
        cluster.set_up(found.is_ok());
        if answered != Some(found.is_ok()) {
            match &found {
                Ok(()) => tracing::info!(cluster = name, "the API server answers"),
                Err(why) => {
                    tracing::warn!(cluster = name, %why, "the API server does not answer");
                }
            }
            answered = Some(found.is_ok());
        }
        // At the start the way to the cluster is made at the same time.
        let pause = match answered {
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
    let client = cluster.connection.client()?;
    match client.send(get("/version")?, BOUNDS).await {
        Ok(_) => Ok(()),
        // It answers, though it does not let this account see its version.
        Err(error) if error.code() == Some(403) => Ok(()),
        Err(error) => Err(error),
    }
}
