//! The event `IssuedLeafCertificate` on the service account that a certificate was issued to, as
//! Linkerd's own controller writes it. Nothing waits for it: what comes faster than it can be written
//! is dropped, and what cannot be written is not tried again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, UnixTime};
use crate::cluster::{ApiError, Cluster, Notice, Notices, Permission};
use crate::controllers::metrics::Metrics;
use crate::digest::hex;

const REASON: &str = "IssuedLeafCertificate";
const COMPONENT: &str = "rootbridge";
/// So many wait to be written; a mesh that starts all at once leaves the rest out.
const WAITING: usize = 1024;
/// The shortest time between two writes to one cluster.
const PACE: Duration = Duration::from_millis(100);
/// What writing needs in a cluster; `why` names the key that wants it.
pub fn event_permission(why: impl Into<String>) -> Permission {
    Permission::new("create", "", "events", why)
}

/// Begins to write events in these clusters, until `stop`; answers where they are told.
pub fn start_events(
    clusters: impl IntoIterator<Item = Arc<Cluster>>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Notices {
    let clusters: Vec<_> = clusters.into_iter().collect();
    let ways = clusters.iter().map(|cluster| {
        let name = cluster.config().name();
        (name.to_owned(), metrics.events(name, "dropped"))
    });
    let (notices, mut ends) = Notices::new(ways, WAITING);
    for cluster in clusters {
        let Some(told) = ends.remove(cluster.config().name()) else {
            continue;
        };
        let writer = Writer {
            cluster,
            clock: Arc::clone(clock),
            metrics: metrics.clone(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(writer.write(told)).await;
        });
    }
    notices
}

/// Writes to one cluster.
struct Writer {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Writer {
    async fn write(&self, mut told: mpsc::Receiver<Notice>) {
        let mut last = String::new();
        let mut pace: Interval = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(notice) = told.recv().await {
            pace.tick().await;
            let name = self.cluster.config().name();
            match self.write_one(&notice).await {
                Ok(()) => {
                    last.clear();
                    self.metrics.events(name, "written").inc();
                }
                Err(error) => {
                    let why = error.to_string();
                    self.metrics.events(name, "failed").inc();
                    // One line for each new reason, not one for each event.
                    if why != last {
                        tracing::warn!(cluster = name, why, "{REASON} events are not written");
                        last = why;
                    }
                }
            }
        }
    }

    async fn write_one(&self, notice: &Notice) -> Result<(), ApiError> {
        let client = self.cluster.connection().client()?;
        let path = Event::url_path(&(), Some(&notice.namespace));
        let event = event(notice, self.clock.now());
        client.create(&path, &event).await?;
        Ok(())
    }
}

fn event(notice: &Notice, now: UnixTime) -> Event {
    let at = Timestamp::from_second(now.secs()).ok().map(Time);
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", notice.account)),
            namespace: Some(notice.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ServiceAccount".to_owned()),
            namespace: Some(notice.namespace.clone()),
            name: Some(notice.account.clone()),
            uid: notice.uid.clone(),
            ..ObjectReference::default()
        },
        type_: Some("Normal".to_owned()),
        reason: Some(REASON.to_owned()),
        message: Some(message(notice)),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            ..EventSource::default()
        }),
        first_timestamp: at.clone(),
        last_timestamp: at,
        count: Some(1),
        ..Event::default()
    }
}

/// In the words of Linkerd's controller, with the time as Go writes it.
fn message(notice: &Notice) -> String {
    let until = Timestamp::from_second(notice.not_after.secs());
    let until = until.map_or_else(
        |_| notice.not_after.to_string(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
    );
    let hash = hex(&notice.sha256);
    format!(
        "issued certificate for {} until {until}: {hash}",
        notice.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_as_the_controllers() {
        let notice = Notice {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            uid: None,
            name: "web.shop.serviceaccount.identity.linkerd.cluster.local".to_owned(),
            not_after: UnixTime::from_secs(1_790_000_000),
            sha256: [0xab; 32],
        };
        let hash = "ab".repeat(32);
        assert_eq!(
            message(&notice),
            format!(
                "issued certificate for web.shop.serviceaccount.identity.linkerd.cluster.local \
                 until 2026-09-21 14:13:20 +0000 UTC: {hash}"
            )
        );
    }
}
