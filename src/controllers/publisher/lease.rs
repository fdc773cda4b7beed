//! One publisher among replicas: a Lease in each cluster, compatible with client-go's leader election.
//!
//! Wall clocks of different servers are not compared: a holder has expired when its record has not
//! changed for the lease's duration, measured here. The holder itself stops a third of the duration
//! before another server may acquire the Lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::PublisherConfig;
use crate::clock::Clock;
use crate::cluster::{ApiClient, ApiError, Cluster};

/// Which server publishes to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// This one, until then unless it renews the Lease.
    This(Instant),
    /// Another one, by its identity.
    Other(String),
    /// Unknown, and why.
    Unreachable(String),
}

/// Acquires and renews the Lease of one cluster.
#[derive(Debug)]
pub(super) struct Election {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: PublisherConfig,
    pub(super) identity: String,
    pub(super) clock: Arc<dyn Clock>,
}

/// The record of another holder, and since when it has not changed.
#[derive(Debug)]
struct ObservedRecord {
    version: Option<String>,
    since: Instant,
}

impl Election {
    /// Runs until `stop`, then releases the Lease so that the next holder need not wait.
    pub(super) async fn run(self, leader: watch::Sender<Leader>, stop: CancellationToken) {
        let duration = self.config.lease_duration();
        let mut observed = None;
        let mut held_until = None;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let answer = tokio::time::timeout(duration / 3, self.try_acquire(&mut observed)).await;
            let next = match answer {
                Ok(Ok(None)) => {
                    let until = started + duration * 2 / 3;
                    held_until = Some(until);
                    Leader::This(until)
                }
                Ok(Ok(Some(other))) => {
                    held_until = None;
                    Leader::Other(other)
                }
                failed => {
                    let why = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer in time".to_owned(),
                    };
                    match held_until.filter(|until| Instant::now() < *until) {
                        Some(until) => Leader::This(until),
                        None => Leader::Unreachable(why),
                    }
                }
            };
            leader.send_if_modified(|now| {
                let differs = *now != next;
                *now = next;
                differs
            });
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(duration / 5) => {}
            }
        }
        // The session has ended with the same `stop`.
        if held_until.is_some() {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.release()).await;
        }
    }

    /// `None` when this server holds the Lease; otherwise its holder.
    async fn try_acquire(
        &self,
        observed: &mut Option<ObservedRecord>,
    ) -> Result<Option<String>, ApiError> {
        let (client, path) = (self.client().await?, self.path());
        let name = self.config.lease_name();
        let Some(mut lease) = client.get::<Lease>(&path, name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(0)),
            };
            return acquired(client.create(&path, &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let transitions = spec.lease_transitions.unwrap_or(0);
        lease.spec = Some(match holder {
            Some(holder) if holder == self.identity => LeaseSpec {
                acquire_time: spec.acquire_time,
                ..self.spec(transitions)
            },
            Some(holder) if !self.has_expired(observed, &lease, spec.lease_duration_seconds) => {
                return Ok(Some(holder));
            }
            _ => self.spec(transitions.saturating_add(1)),
        });
        acquired(client.replace(&path, name, &lease).await)
    }

    /// Whether another holder's record has not changed for its duration.
    fn has_expired(
        &self,
        observed: &mut Option<ObservedRecord>,
        lease: &Lease,
        secs: Option<i32>,
    ) -> bool {
        let now = Instant::now();
        let version = lease.metadata.resource_version.clone();
        match observed {
            Some(observed) if observed.version == version => {
                let secs = secs.and_then(|secs| u64::try_from(secs).ok()).unwrap_or(0);
                let duration = Duration::from_secs(secs).max(self.config.lease_duration());
                now.duration_since(observed.since) >= duration
            }
            _ => {
                let since = now;
                *observed = Some(ObservedRecord { version, since });
                false
            }
        }
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = Timestamp::from_second(self.clock.now().secs())
            .ok()
            .map(MicroTime);
        let secs = self.config.lease_duration().as_secs();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(secs).ok(),
            acquire_time: now.clone(),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), ApiError> {
        let (client, path) = (self.client().await?, self.path());
        let name = self.config.lease_name();
        let Some(mut lease) = client.get::<Lease>(&path, name).await? else {
            return Ok(());
        };
        let Some(spec) = lease.spec.as_mut() else {
            return Ok(());
        };
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            client.replace(&path, name, &lease).await?;
        }
        Ok(())
    }

    async fn client(&self) -> Result<ApiClient, ApiError> {
        Ok(self.cluster.connection().client().await?)
    }

    fn path(&self) -> String {
        Lease::url_path(&(), Some(self.config.lease_namespace()))
    }
}

fn acquired(answer: Result<Lease, ApiError>) -> Result<Option<String>, ApiError> {
    match answer {
        Ok(_) => Ok(None),
        // Another server was faster.
        Err(error) if error.code() == Some(409) => {
            Ok(Some("another server, a moment ago".to_owned()))
        }
        Err(error) => Err(error),
    }
}
