//! Whether Linkerd's controller accepts the issuer that was written for it. The controller reports that
//! in an event. It can miss a change (linkerd2 #15109), which would show only when the old issuer
//! expires.
//!
//! Clocks are not compared: an event is new when its UID and version were not listed before the write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::UnixTime;
use crate::cluster::{ApiClient, ApiError, Cluster, Collection};
use crate::controllers::config::LinkerdIssuer;
use crate::controllers::managed_secret::Observer;
use crate::controllers::metrics::Metrics;

const DEPLOYMENT: &str = "linkerd-identity";
const ACCEPTED: &str = "IssuerUpdated";
const SKIPPED: &str = "IssuerUpdateSkipped";
/// For one list.
const DEADLINE: Duration = Duration::from_secs(10);
/// The length of an event's message in the log.
const MAX_MESSAGE: usize = 300;

/// Versions of events by UID.
type EventVersions = HashMap<String, String>;

#[derive(Debug)]
pub(in crate::controllers) struct IssuerAcceptance {
    name: String,
    namespace: String,
    timeout: Duration,
    cluster: Arc<Cluster>,
    metrics: Metrics,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The events before the last write; `None` when they could not be listed.
    before: Option<EventVersions>,
    /// When the secret was written, while the controller's event is awaited.
    written_at: Option<Instant>,
}

/// What the controller reported after a write.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Pending,
    Accepted,
    /// It did not accept the issuer, and why.
    Skipped(String),
}

impl IssuerAcceptance {
    pub(in crate::controllers) fn new(
        issuer: &LinkerdIssuer,
        cluster: Arc<Cluster>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            name: issuer.name().to_owned(),
            namespace: issuer.control_namespace().to_owned(),
            timeout: issuer.acceptance_timeout(),
            cluster,
            metrics: metrics.clone(),
            state: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Follows each write until `stop`.
    pub(in crate::controllers) async fn run(&self, stop: &CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                self.wake.notified().await;
                self.await_reply().await;
            }
        })
        .await;
    }

    /// From a write to the controller's reply; a later write starts over.
    async fn await_reply(&self) {
        let mut skipped = None;
        let pause = (self.timeout / 20).clamp(Duration::from_secs(1), Duration::from_secs(15));
        loop {
            let Some((before, since)) = self.pending() else {
                return;
            };
            let listed = self.list().await;
            // Another write replaced this one while the events were listed.
            if self.pending().is_none_or(|(_, at)| at != since) {
                skipped = None;
                continue;
            }
            match &listed {
                Ok(events) => match reply(&before, events) {
                    Reply::Accepted => return self.on_accepted(since),
                    Reply::Skipped(why) if skipped.as_ref() != Some(&why) => {
                        self.warn("skipped", &format!("the controller reports: {why}"));
                        skipped = Some(why);
                    }
                    Reply::Skipped(_) | Reply::Pending => {}
                },
                Err(why) => tracing::debug!(issuer = self.name, %why, "events not listed"),
            }
            if since.elapsed() >= self.timeout {
                let why = match listed {
                    Err(why) => format!("its events cannot be listed: {why}"),
                    Ok(_) => format!("it reported nothing within {} s", self.timeout.as_secs()),
                };
                self.forget(since);
                return self.warn("unseen", &why);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => skipped = None,
            }
        }
    }

    fn on_accepted(&self, since: Instant) {
        self.forget(since);
        let cluster = self.cluster.config().name();
        self.metrics.issuer_accepted(&self.name, cluster, true);
        self.metrics.count(&self.name, cluster, "taken");
        tracing::info!(
            cluster,
            section = self.name,
            "Linkerd's controller accepted its new issuer"
        );
    }

    fn warn(&self, result: &'static str, why: &str) {
        let cluster = self.cluster.config().name();
        self.metrics.count(&self.name, cluster, result);
        tracing::warn!(
            cluster,
            section = self.name,
            why,
            "Linkerd's controller has not accepted its new issuer (linkerd2 #15109): kubectl rollout restart \
             deploy/{DEPLOYMENT} -n {}",
            self.namespace
        );
    }

    fn pending(&self) -> Option<(EventVersions, Instant)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Some((state.before.clone()?, state.written_at?))
    }

    fn forget(&self, since: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written_at == Some(since) {
            state.written_at = None;
        }
    }

    async fn list(&self) -> Result<Vec<Event>, ApiError> {
        list(&self.cluster.connection().client().await?, &self.namespace).await
    }
}

impl Observer for Arc<IssuerAcceptance> {
    async fn before_write(&self, client: &ApiClient) {
        let seen = list(client, &self.namespace).await;
        if let Err(why) = &seen {
            let cluster = self.cluster.config().name();
            tracing::warn!(
                cluster,
                section = self.name,
                %why,
                "events cannot be listed: it will not be known whether Linkerd's controller accepts its issuer"
            );
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.before = seen.ok().map(|events| events.iter().map(version).collect());
        state.written_at = None;
    }

    fn on_written(&self) {
        let cluster = self.cluster.config().name();
        self.metrics.issuer_accepted(&self.name, cluster, false);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written_at = Some(Instant::now());
        self.wake.notify_one();
    }

    fn on_valid(&self, not_after: UnixTime) {
        let cluster = self.cluster.config().name();
        self.metrics
            .issuer_not_after(&self.name, cluster, not_after);
    }
}

async fn list(client: &ApiClient, namespace: &str) -> Result<Vec<Event>, ApiError> {
    let of = format!("involvedObject.kind=Deployment,involvedObject.name={DEPLOYMENT}");
    let events = Collection::new(Event::url_path(&(), Some(namespace))).fields(of);
    let listed = tokio::time::timeout(DEADLINE, client.list(events)).await;
    listed.unwrap_or(Err(ApiError::Timeout(DEADLINE)))
}

fn version(event: &Event) -> (String, String) {
    let meta = &event.metadata;
    (
        meta.uid.clone().unwrap_or_default(),
        meta.resource_version.clone().unwrap_or_default(),
    )
}

/// The newest reply among the events that are not in `before`; at the same time, acceptance counts.
fn reply(before: &EventVersions, events: &[Event]) -> Reply {
    let fresh = events.iter().filter(|event| {
        let (uid, version) = version(event);
        before.get(&uid) != Some(&version)
    });
    let replies = fresh.filter_map(|event| {
        let reply = match event.reason.as_deref() {
            Some(ACCEPTED) => Reply::Accepted,
            Some(SKIPPED) => {
                Reply::Skipped(printable(event.message.as_deref().unwrap_or_default()))
            }
            _ => return None,
        };
        Some((time(event), reply == Reply::Accepted, reply))
    });
    let last = replies.max_by_key(|(at, is_accepted, _)| (*at, *is_accepted));
    last.map_or(Reply::Pending, |(_, _, reply)| reply)
}

/// When the event last occurred: recorders count repetitions in one object.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let series = series.and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|at| at.0);
    let whole = event.last_timestamp.as_ref();
    let made = event.metadata.creation_timestamp.as_ref();
    whole.map(|at| at.0).max(micro).or(made.map(|at| at.0))
}

fn printable(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn event(uid: &str, version: &str, reason: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": { "uid": uid, "resourceVersion": version },
            "involvedObject": { "kind": "Deployment", "name": DEPLOYMENT },
            "reason": reason, "message": "why\nnot", "lastTimestamp": at,
        }))
        .unwrap()
    }

    const EARLY: &str = "2026-11-22T10:00:00Z";
    const LATE: &str = "2026-11-22T10:00:01Z";

    #[test]
    fn only_new_events_count() {
        let old = [
            event("a", "1", ACCEPTED, EARLY),
            event("b", "2", SKIPPED, EARLY),
        ];
        let before: EventVersions = old.iter().map(version).collect();
        assert_eq!(reply(&before, &old), Reply::Pending);
        assert_eq!(reply(&before, &[]), Reply::Pending);
        let other = event("c", "3", "ScalingReplicaSet", LATE);
        assert_eq!(reply(&before, &[other]), Reply::Pending);
        // A repetition is the same object at another version, even at the same time.
        let repeated = event("a", "4", ACCEPTED, EARLY);
        assert_eq!(reply(&before, &[repeated]), Reply::Accepted);
        let skipped = event("b", "5", SKIPPED, LATE);
        assert_eq!(
            reply(&before, &[skipped]),
            Reply::Skipped("why not".to_owned())
        );
    }

    #[test]
    fn the_newest_event_counts() {
        let none = EventVersions::new();
        let accepted = |at| event("a", "1", ACCEPTED, at);
        let skipped = |at| event("b", "2", SKIPPED, at);
        assert_eq!(
            reply(&none, &[skipped(EARLY), accepted(LATE)]),
            Reply::Accepted
        );
        assert_eq!(
            reply(&none, &[skipped(LATE), accepted(LATE)]),
            Reply::Accepted
        );
        let then = reply(&none, &[accepted(EARLY), skipped(LATE)]);
        assert!(matches!(then, Reply::Skipped(_)));
    }
}
