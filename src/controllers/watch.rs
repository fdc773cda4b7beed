//! Watches objects of one kind in one cluster, for ever: a list, then what changes, and both anew
//! whenever the watch breaks.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http::told;
use crate::backoff::Backoff;
use crate::cluster::Cluster;

/// After this a watch is begun anew, whatever it says: what a half-open connection has missed is
/// found then at the latest.
const ANEW: Duration = Duration::from_secs(300);
/// How long to wait after a watch broke.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// To the first answer.
const LIST: Duration = Duration::from_secs(30);

/// What is watched.
pub(super) trait Watched: Sync {
    /// The kind of object.
    type Object: Resource + Clone + DeserializeOwned + Debug + Send + 'static;

    /// Where the objects are; asked at each new beginning, because a server may have been
    /// upgraded.
    fn api(
        &self,
        client: Client,
    ) -> impl Future<Output = Result<Api<Self::Object>, kube::Error>> + Send;

    /// Which of them.
    fn selector(&self) -> watcher::Config;

    /// An object as it is now; deleted ones are not told.
    fn seen(&self, object: Self::Object) -> impl Future<Output = ()> + Send;

    /// Whether the watch stands, told at each change.
    fn up(&self, up: bool);

    /// An object has gone.
    fn gone(&self, _object: Self::Object) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Watches until `stop`; `what` names it in the log.
pub(super) async fn follow<W: Watched>(
    watched: &W,
    cluster: &Cluster,
    what: &str,
    stop: &CancellationToken,
) {
    let mut backoff = RETRY;
    let mut last = String::new();
    loop {
        let why = tokio::select! {
            () = stop.cancelled() => return,
            why = once(watched, cluster, &mut backoff, &mut last) => why,
        };
        if let Err(why) = why {
            watched.up(false);
            // One line for each new reason, not one for each try.
            if why != last {
                let cluster = cluster.config().name();
                tracing::warn!(cluster, what, why, "the watch broke; it is begun anew");
                last = why;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }
}

async fn once<W: Watched>(
    watched: &W,
    cluster: &Cluster,
    backoff: &mut Backoff,
    last: &mut String,
) -> Result<(), String> {
    let client = cluster
        .connection()
        .client()
        .map_err(|down| down.to_string())?;
    let api = tokio::time::timeout(LIST, watched.api(client))
        .await
        .map_err(|_| "the API server does not answer".to_owned())?
        .map_err(|error| told(&error))?;
    let stream = watcher::watcher(api, watched.selector());
    pin_mut!(stream);
    let mut until = Instant::now() + LIST;
    let mut listed = false;
    loop {
        let event = match tokio::time::timeout_at(until, stream.next()).await {
            Ok(Some(event)) => event.map_err(|error| broken(&error))?,
            Ok(None) | Err(_) if listed => return Ok(()),
            Ok(None) | Err(_) => return Err("the list took too long".to_owned()),
        };
        match event {
            Event::Init => {}
            Event::InitApply(object) => {
                watched.seen(object).await;
                // A long list goes on as long as it goes on.
                until = Instant::now() + LIST;
            }
            Event::InitDone => {
                watched.up(true);
                listed = true;
                until = Instant::now() + ANEW;
                backoff.reset();
                last.clear();
            }
            Event::Apply(object) => watched.seen(object).await,
            Event::Delete(object) => watched.gone(object).await,
        }
    }
}

fn broken(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => told(error),
        WatchError(status) => format!("the API server says {}: {}", status.code, status.message),
        other => other.to_string(),
    }
}
