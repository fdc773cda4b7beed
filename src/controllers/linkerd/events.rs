//! The event `IssuedLeafCertificate` on the service account of an issued certificate, as Linkerd's own
//! controller writes it. Issuance does not wait for it: events beyond the queue are dropped, and a
//! failed write is not retried.

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
use crate::log_limit::OnChange;

const REASON: &str = "IssuedLeafCertificate";
const COMPONENT: &str = "rootbridge";
/// The queue's capacity; a mesh that starts all at once loses the rest.
const CAPACITY: usize = 1024;
/// The shortest time between two writes to one cluster.
const PACE: Duration = Duration::from_millis(100);
/// The permission to write events; `why` names the configuration key that needs it.
pub fn event_permission(why: impl Into<String>) -> Permission {
    Permission::new("create", "", "events", why)
}

/// Writes events in these clusters until `stop`; returns the sender.
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
    let (notices, mut receivers) = Notices::new(ways, CAPACITY);
    for cluster in clusters {
        let Some(receiver) = receivers.remove(cluster.config().name()) else {
            continue;
        };
        let writer = Writer {
            cluster,
            clock: Arc::clone(clock),
            metrics: metrics.clone(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(writer.run(receiver)).await;
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
    async fn run(&self, mut receiver: mpsc::Receiver<Notice>) {
        let mut reasons = OnChange::default();
        let mut pace: Interval = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(notice) = receiver.recv().await {
            pace.tick().await;
            let name = self.cluster.config().name();
            match self.write(&notice).await {
                Ok(()) => {
                    reasons.clear();
                    self.metrics.events(name, "written").inc();
                }
                Err(error) => {
                    let why = error.to_string();
                    self.metrics.events(name, "failed").inc();
                    if reasons.is_new(&why) {
                        tracing::warn!(cluster = name, why, "{REASON} events are not written");
                    }
                }
            }
        }
    }

    async fn write(&self, notice: &Notice) -> Result<(), ApiError> {
        let client = self.cluster.connection().client().await?;
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

/// The text of Linkerd's controller, with the time in Go's format.
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
    fn the_message_equals_that_of_linkerds_controller() {
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
