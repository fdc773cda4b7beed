//! Publishes to one cluster while this server holds its Lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::kinds::Kinds;
use super::object_state::{ObjectKey, Observed};
use super::reconciler::{Index, Reconciler};
use super::report::{self, Applied};
use super::target::{TargetConfig, TargetKind};
use super::watch::{self, KeyedEvent, NamespaceState};
use super::write::{self, Outcome};
use super::{Dependencies, SessionLease};
use crate::backoff::Backoff;
use crate::clock::UnixTime;
use crate::cluster::Cluster;
use crate::digest;
use crate::ledger::{BundleRollout, LedgerError};
use crate::trust::{BundleSubscription, PublishedBundle, TargetStatus};

const MAX_WRITES_IN_PROGRESS: usize = 8;
/// How often changes are reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// So many overload answers in a row concern the API server, not one object.
const OVERLOAD_THRESHOLD: u32 = 3;
/// How long all writes pause when the API server is overloaded or unreachable.
const PAUSE: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

enum Event {
    Namespaces(KeyedEvent<NamespaceState>),
    Objects(Index, KeyedEvent<Observed>),
    Bundle(Index, Arc<PublishedBundle>),
}

pub(super) struct Session {
    cluster: Arc<Cluster>,
    dependencies: Arc<Dependencies>,
    reconciler: Reconciler,
    kinds: Vec<Arc<Kinds>>,
    events: SelectAll<BoxStream<'static, Event>>,
    writes: JoinSet<(Index, ObjectKey, Outcome)>,
    records: JoinSet<(Index, BundleRollout, Result<UnixTime, LedgerError>)>,
    /// By target: the last version that all objects held at once, as the ledger has it.
    applied: Vec<Option<Applied>>,
    /// By target: what was reported last.
    reported: Vec<Option<TargetStatus>>,
    backoff: Backoff,
    overloads: u32,
    paused_until: Instant,
    has_changed: bool,
    lease: SessionLease,
}

impl Session {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        targets: &[Arc<TargetConfig>],
        dependencies: Arc<Dependencies>,
    ) -> Self {
        let kinds = targets.iter().map(|target| Arc::new(Kinds::of(target)));
        let kinds: Vec<_> = kinds.collect();
        let mut events = SelectAll::new();
        let in_namespaces =
            |target: &Arc<TargetConfig>| matches!(target.kind(), TargetKind::ConfigMap { .. });
        if targets.iter().any(in_namespaces) {
            let events_of = watch::namespaces(&cluster);
            events.push(events_of.map(Event::Namespaces).boxed());
        }
        for (index, (target, kinds)) in targets.iter().zip(&kinds).enumerate() {
            let events_of = watch::objects(&cluster, Arc::clone(target), Arc::clone(kinds));
            events.push(
                events_of
                    .map(move |event| Event::Objects(index, event))
                    .boxed(),
            );
            let subscription = dependencies
                .bundles
                .subscribe(target.trust_domain().clone());
            let bundles = versions(subscription).map(move |bundle| Event::Bundle(index, bundle));
            events.push(bundles.boxed());
        }
        Self {
            reconciler: Reconciler::new(cluster.config().name(), targets.iter().map(Arc::clone)),
            cluster,
            dependencies,
            kinds,
            events,
            writes: JoinSet::new(),
            records: JoinSet::new(),
            applied: vec![None; targets.len()],
            reported: vec![None; targets.len()],
            backoff: PAUSE,
            overloads: 0,
            paused_until: Instant::now(),
            has_changed: true,
            lease: Arc::default(),
        }
    }

    /// Runs until it is dropped, which aborts the writes in progress.
    pub(super) async fn run(mut self) {
        let mut pace = interval(self.dependencies.config.pace());
        let mut report = interval(REPORT_INTERVAL);
        loop {
            let now = Instant::now();
            let has_capacity = self.writes.len() < MAX_WRITES_IN_PROGRESS;
            let is_ready = self.reconciler.is_ready(now) && now >= self.paused_until;
            let next_due = self.reconciler.next_due().unwrap_or(now);
            let wake_at = next_due.max(self.paused_until);
            tokio::select! {
                Some(event) = self.events.next() => self.on_event(event),
                Some(done) = self.writes.join_next() => {
                    if let Ok((index, key, outcome)) = done {
                        self.on_outcome(index, &key, outcome);
                    }
                }
                Some(done) = self.records.join_next() => {
                    if let Ok((index, rollout, answer)) = done {
                        self.on_recorded(index, rollout, answer);
                    }
                }
                _ = pace.tick(), if has_capacity && is_ready => self.write(),
                () = tokio::time::sleep_until(wake_at.into()),
                    if has_capacity && !is_ready && wake_at > now => {}
                _ = report.tick() => self.report(),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        self.has_changed = true;
        match event {
            Event::Namespaces(event) => self.reconciler.on_namespace_event(event, now),
            Event::Objects(index, event) => self.reconciler.on_object_event(index, event, now),
            Event::Bundle(index, bundle) => self.reconciler.set_bundle(index, &bundle, now),
        }
    }

    fn write(&mut self) {
        let Some(write) = self.reconciler.next(Instant::now()) else {
            return;
        };
        let Some(kinds) = self.kinds.get(write.index).map(Arc::clone) else {
            return;
        };
        let cluster = Arc::clone(&self.cluster);
        self.writes.spawn(async move {
            let (target, object) = (&write.target, write.object);
            let outcome =
                write::write(&cluster, target, kinds.resource(), &write.key, object).await;
            (write.index, write.key, outcome)
        });
    }

    fn on_outcome(&mut self, index: Index, key: &ObjectKey, outcome: Outcome) {
        let now = Instant::now();
        self.has_changed = true;
        let pause = match &outcome {
            Outcome::Unreachable(_) => Some(Duration::ZERO),
            Outcome::Overloaded(_, Some(retry_after)) => Some(*retry_after),
            Outcome::Overloaded(_, None) => {
                self.overloads += 1;
                (self.overloads >= OVERLOAD_THRESHOLD).then_some(Duration::ZERO)
            }
            _ => {
                self.overloads = 0;
                self.backoff.reset();
                None
            }
        };
        // Writes that fail during a pause were in progress before it: they count as one failure.
        if let Some(at_least) = pause
            && now >= self.paused_until
        {
            self.paused_until = now + at_least.max(self.backoff.next_delay());
        }
        self.reconciler.on_outcome(index, key, outcome, now);
    }

    /// Reports the status of each target where it changed, and records in the ledger that all
    /// objects of a target hold a version.
    fn report(&mut self) {
        // A conflict ends with time, without an event.
        let has_conflict = |status: &TargetStatus| status.contested > 0;
        if !std::mem::take(&mut self.has_changed)
            && !self.reported.iter().flatten().any(has_conflict)
        {
            return;
        }
        let name = self.cluster.config().name();
        for (index, state) in self.reconciler.targets.iter().enumerate() {
            let applied = self.applied.get(index).and_then(Option::as_ref);
            let status = report::status(name, &self.reconciler, state, applied, Instant::now());
            if report::is_everywhere(&self.reconciler, state, &status)
                && let Some(desired) = &state.desired
                && applied.is_none_or(|known| !known.is_of(&desired.bundle))
                && self.records.is_empty()
            {
                let rollout = BundleRollout {
                    cluster: name.to_owned(),
                    target: state.target.name().to_owned(),
                    trust_domain: state.target.trust_domain().clone(),
                    sequence: desired.bundle.bundle.sequence(),
                    digest: desired.bundle.bundle.digest(),
                    objects: u64::try_from(status.in_step).unwrap_or(u64::MAX),
                    at: self.dependencies.clock.now(),
                    by: self.dependencies.instance.clone(),
                };
                let lease = Arc::clone(&self.lease);
                let recorded = (self.dependencies.record)(rollout.clone(), lease);
                self.records
                    .spawn(async move { (index, rollout, recorded.await) });
            }
            let Some(reported) = self.reported.get_mut(index) else {
                continue;
            };
            let had_error = reported.as_ref().is_some_and(|last| last.error.is_some());
            if let (Some(why), false) = (&status.error, had_error) {
                tracing::warn!(
                    cluster = name,
                    bundle_target = state.target.name(),
                    why,
                    "a trust bundle is not up to date everywhere"
                );
            }
            if reported.as_ref() != Some(&status) {
                self.dependencies.distribution.set(status.clone());
                *reported = Some(status);
            }
        }
        // Another target may wait for the record in progress.
        self.has_changed |= !self.records.is_empty();
    }

    fn on_recorded(
        &mut self,
        index: Index,
        rollout: BundleRollout,
        answer: Result<UnixTime, LedgerError>,
    ) {
        self.has_changed = true;
        let (cluster, target) = (&rollout.cluster, &rollout.target);
        let at = match answer {
            Ok(at) => at,
            // The next report tries again.
            Err(error) => {
                tracing::debug!(cluster, bundle_target = target, %error, "a bundle's rollout is not recorded yet");
                return;
            }
        };
        tracing::info!(
            cluster,
            bundle_target = target,
            sequence = rollout.sequence,
            objects = rollout.objects,
            "the trust bundle is published everywhere"
        );
        if let Some(applied) = self.applied.get_mut(index) {
            *applied = Some(Applied {
                sequence: rollout.sequence,
                digest: digest::hex(&rollout.digest),
                at,
            });
        }
    }
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn versions(subscription: BundleSubscription) -> BoxStream<'static, Arc<PublishedBundle>> {
    let next = |mut subscription: BundleSubscription| async move {
        let bundle = subscription.next().await?;
        Some((bundle, subscription))
    };
    stream::unfold(subscription, next).boxed()
}
