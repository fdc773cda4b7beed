//! A cluster's writer at work, from the moment that it holds the Lease until it loses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::backoff::Backoff;
use super::kinds::Kinds;
use super::object_state::{ObjectKey, Observed};
use super::reconciler::{Index, Reconciler};
use super::report::{self, Applied};
use super::target::{TargetConfig, TargetKind};
use super::watch::{self, NamespaceSeen, News};
use super::write::{self, Outcome};
use crate::clock::UnixTime;
use crate::cluster::Cluster;
use crate::digest::hex;
use crate::ledger::{BundleRollout, LedgerError};
use crate::trust::{BundleSubscription, PublishedBundle, TargetStatus};

/// Writes under way at once.
const AT_ONCE: usize = 8;
/// How often it is looked whether there is something new to report.
const REPORT: Duration = Duration::from_millis(200);
/// So many answers of trouble in a row are the API server's trouble, not one object's.
const TROUBLED: u32 = 3;

enum Event {
    Namespaces(News<NamespaceSeen>),
    Objects(Index, News<Observed>),
    Bundle(Index, Arc<PublishedBundle>),
}

/// A cluster's writer at work.
pub(super) struct Session {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    reconciler: Reconciler,
    kinds: Vec<Arc<Kinds>>,
    events: SelectAll<BoxStream<'static, Event>>,
    writes: JoinSet<(Index, ObjectKey, Outcome)>,
    records: JoinSet<(Index, BundleRollout, Result<UnixTime, LedgerError>)>,
    /// By target: what stood everywhere, and is on record.
    applied: Vec<Option<Applied>>,
    last: Vec<Option<TargetStatus>>,
    backoff: Backoff,
    troubled: u32,
    /// Nothing is written before.
    pause: Instant,
    news: bool,
}

impl Session {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        targets: &[Arc<TargetConfig>],
        shared: Arc<Shared>,
    ) -> Self {
        let reconciler = Reconciler::new(cluster.config().name(), targets.iter().map(Arc::clone));
        let kinds: Vec<_> = targets
            .iter()
            .map(|target| Arc::new(Kinds::of(target)))
            .collect();
        let mut events = SelectAll::new();
        let in_namespaces =
            |target: &Arc<TargetConfig>| matches!(target.kind(), TargetKind::ConfigMap { .. });
        if targets.iter().any(in_namespaces) {
            let news = watch::namespaces(Arc::clone(&cluster));
            events.push(news.map(Event::Namespaces).boxed());
        }
        for (index, (target, kinds)) in targets.iter().zip(&kinds).enumerate() {
            let news = watch::objects(Arc::clone(&cluster), Arc::clone(target), Arc::clone(kinds));
            events.push(news.map(move |news| Event::Objects(index, news)).boxed());
            let follower = shared.bundles.subscribe(target.trust_domain().clone());
            let bundles = versions(follower).map(move |bundle| Event::Bundle(index, bundle));
            events.push(bundles.boxed());
        }
        let count = targets.len();
        Self {
            cluster,
            shared,
            reconciler,
            kinds,
            events,
            writes: JoinSet::new(),
            records: JoinSet::new(),
            applied: vec![None; count],
            last: vec![None; count],
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
            troubled: 0,
            pause: Instant::now(),
            news: true,
        }
    }

    /// Works until it is dropped; writes under way end with it.
    pub(super) async fn run(mut self) {
        let mut pace = tokio::time::interval(self.shared.config.pace());
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = tokio::time::interval(REPORT);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            let has_room = self.writes.len() < AT_ONCE;
            let may_write = has_room && now >= self.pause && self.reconciler.is_ready(now);
            let wake = self.reconciler.next_due().unwrap_or(now).max(self.pause);
            let waits = has_room && !may_write && wake > now;
            tokio::select! {
                Some(event) = self.events.next() => self.on_event(event),
                Some(done) = self.writes.join_next() => {
                    if let Ok((index, key, outcome)) = done {
                        self.on_outcome(index, &key, outcome);
                    }
                }
                Some(done) = self.records.join_next() => {
                    if let Ok((index, rollout, answer)) = done {
                        self.recorded(index, rollout, answer);
                    }
                }
                _ = pace.tick(), if may_write => self.write(),
                () = tokio::time::sleep_until(wake.into()), if waits => {}
                _ = report.tick() => self.report(),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        self.news = true;
        match event {
            Event::Namespaces(news) => self.reconciler.on_namespace_event(news, now),
            Event::Objects(index, news) => self.reconciler.on_object_event(index, news, now),
            Event::Bundle(index, bundle) => self.reconciler.set_bundle(index, &bundle, now),
        }
    }

    fn write(&mut self) {
        let Some(job) = self.reconciler.next(Instant::now()) else {
            return;
        };
        let Some(kinds) = self.kinds.get(job.index).map(Arc::clone) else {
            return;
        };
        let cluster = Arc::clone(&self.cluster);
        self.writes.spawn(async move {
            let resource = kinds.resource();
            let outcome = write::write(&cluster, &job.target, resource, &job.key, job.object).await;
            (job.index, job.key, outcome)
        });
    }

    fn on_outcome(&mut self, index: Index, key: &ObjectKey, outcome: Outcome) {
        let now = Instant::now();
        self.news = true;
        let pause = match &outcome {
            Outcome::Down(_) => Some(None),
            Outcome::Trouble(_, Some(after)) => Some(Some(*after)),
            Outcome::Trouble(_, None) => {
                self.troubled += 1;
                (self.troubled >= TROUBLED).then_some(None)
            }
            _ => {
                self.troubled = 0;
                self.backoff.reset();
                None
            }
        };
        // Many writes may fail at once, which is one failure.
        if let Some(asked) = pause
            && now >= self.pause
        {
            self.pause = now + asked.unwrap_or_default().max(self.backoff.next());
        }
        self.reconciler.on_outcome(index, key, outcome, now);
    }

    fn report(&mut self) {
        // A conflict that has ended is no news by itself.
        let is_contested = |status: &Option<TargetStatus>| {
            status.as_ref().is_some_and(|status| status.contested > 0)
        };
        if !std::mem::take(&mut self.news) && !self.last.iter().any(is_contested) {
            return;
        }
        let name = self.cluster.config().name();
        for (index, state) in self.reconciler.targets.iter().enumerate() {
            let applied = self.applied.get(index).and_then(Option::as_ref);
            let status = report::status(name, &self.reconciler, state, applied, Instant::now());
            if report::is_everywhere(&self.reconciler, state, &status)
                && let Some(desired) = &state.desired
                && applied.is_none_or(|known| known.digest != desired.bundle.digest)
                && self.records.is_empty()
            {
                let rollout = BundleRollout {
                    cluster: name.to_owned(),
                    target: state.target.name().to_owned(),
                    trust_domain: state.target.trust_domain().clone(),
                    sequence: desired.bundle.bundle.sequence(),
                    digest: desired.bundle.bundle.digest(),
                    objects: u64::try_from(status.in_step).unwrap_or(u64::MAX),
                    at: self.shared.clock.now(),
                    by: self.shared.instance.clone(),
                };
                let ledger = Arc::clone(&self.shared.ledger);
                self.records.spawn(async move {
                    let answer = ledger.record_rollout(rollout.clone()).await;
                    (index, rollout, answer)
                });
            }
            let Some(last) = self.last.get_mut(index) else {
                continue;
            };
            let error_before = last.as_ref().and_then(|last| last.error.as_ref());
            if let Some(why) = &status.error
                && error_before.is_none()
            {
                tracing::warn!(
                    cluster = name,
                    target = state.target.name(),
                    why,
                    "a trust bundle is not in step everywhere"
                );
            }
            if last.as_ref() != Some(&status) {
                self.shared.distribution.set(status.clone());
                *last = Some(status);
            }
        }
        // What waits for another record to be written is looked at again.
        self.news |= !self.records.is_empty();
    }

    fn recorded(
        &mut self,
        index: Index,
        rollout: BundleRollout,
        answer: Result<UnixTime, LedgerError>,
    ) {
        self.news = true;
        let (cluster, target) = (&rollout.cluster, &rollout.target);
        let at = match answer {
            Ok(at) => at,
            // It is owed, and brought again with the next report.
            Err(error) => {
                tracing::debug!(cluster, target, %error, "a bundle's rollout is not recorded yet");
                return;
            }
        };
        tracing::info!(
            cluster,
            target,
            sequence = rollout.sequence,
            objects = rollout.objects,
            "the trust bundle stands everywhere"
        );
        if let Some(applied) = self.applied.get_mut(index) {
            *applied = Some(Applied {
                sequence: rollout.sequence,
                digest: hex(&rollout.digest),
                at,
            });
        }
    }
}

fn versions(follower: BundleSubscription) -> BoxStream<'static, Arc<PublishedBundle>> {
    let next = |mut follower: BundleSubscription| async move {
        let bundle = follower.next().await?;
        Some((bundle, follower))
    };
    stream::unfold(follower, next).boxed()
}
