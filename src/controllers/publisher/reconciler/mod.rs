//! What is known of one cluster, and what is to be written there. Pure: news, answers and the time
//! come in, writes to be made go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backoff;
use super::desired::Desired;
use super::listing::Listing;
use super::object_state::{ObjectKey, ObjectState, Observed};
use super::queue::{Priority, Queue};
use super::target::{TargetConfig, TargetKind};
use super::watch::{NamespaceSeen, News};
use super::write::Outcome;
use crate::trust::PublishedBundle;

/// The waits of an object whose writes fail.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// When a namespace that was said to be going is asked again, should no watch say more of it.
const GONE_CHECK: Duration = Duration::from_secs(5);

/// The place of a target on the reconciler.
pub(super) type Index = usize;
type Task = (Index, ObjectKey);

/// One write that is to be made now.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) index: Index,
    pub(super) target: Arc<TargetConfig>,
    pub(super) key: ObjectKey,
    pub(super) object: Value,
}

/// What is known of one cluster.
#[derive(Debug)]
pub(super) struct Reconciler {
    cluster: String,
    pub(super) targets: Vec<TargetState>,
    namespaces: BTreeMap<ObjectKey, NamespaceSeen>,
    pub(super) listing: Listing,
    queue: Queue<Task>,
}

/// One target there.
#[derive(Debug)]
pub(super) struct TargetState {
    pub(super) target: Arc<TargetConfig>,
    pub(super) desired: Option<Desired>,
    /// Why the newest bundle is not published.
    pub(super) refused: Option<String>,
    pub(super) objects: BTreeMap<ObjectKey, ObjectState>,
    pub(super) listing: Listing,
    pub(super) writes: u64,
}

impl TargetState {
    fn is_up_to_date(&self, key: &ObjectKey) -> bool {
        let found = self
            .objects
            .get(key)
            .and_then(|object| object.found.as_ref());
        match (&self.desired, found) {
            (Some(desired), Some(found)) => desired.is_in(found),
            _ => false,
        }
    }
}

impl Reconciler {
    pub(super) fn new(cluster: &str, targets: impl Iterator<Item = Arc<TargetConfig>>) -> Self {
        let state = |target| TargetState {
            target,
            desired: None,
            refused: None,
            objects: BTreeMap::new(),
            listing: Listing::default(),
            writes: 0,
        };
        Self {
            cluster: cluster.to_owned(),
            targets: targets.map(state).collect(),
            namespaces: BTreeMap::new(),
            listing: Listing::default(),
            queue: Queue::default(),
        }
    }

    /// Another version of a target's bundle.
    pub(super) fn set_bundle(&mut self, index: Index, bundle: &Arc<PublishedBundle>, now: Instant) {
        let Some(state) = self.targets.get_mut(index) else {
            return;
        };
        match Desired::new(bundle, &state.target) {
            Ok(desired) => {
                state.desired = Some(desired);
                state.refused = None;
            }
            // The last one goes on being kept in place.
            Err(why) => {
                tracing::error!(
                    cluster = self.cluster,
                    target = state.target.name(),
                    why,
                    "a trust bundle is not published"
                );
                state.refused = Some(why);
            }
        }
        self.update_queue_for_all(index, now);
    }

    /// What the watch of namespaces says.
    pub(super) fn on_namespace_event(&mut self, news: News<NamespaceSeen>, now: Instant) {
        match news {
            News::Begin => self.listing.begin(),
            News::Listed(name, seen) => {
                self.listing.listed(&name);
                self.namespaces.insert(name, seen);
            }
            News::Complete => {
                for name in self.listing.finish(self.namespaces.keys()) {
                    self.forget(&name);
                }
                (0..self.targets.len()).for_each(|index| self.update_queue_for_all(index, now));
            }
            News::Changed(name, seen) => {
                self.listing.follows();
                self.namespaces.insert(name.clone(), seen);
                for index in 0..self.targets.len() {
                    self.update_queue(index, &name, Priority::Fresh, now);
                }
            }
            News::Gone(name, _) => self.forget(&name),
            News::Broken(why) => self.listing.broke(why),
        }
    }

    /// What the watch of a target's objects says.
    pub(super) fn on_object_event(&mut self, index: Index, news: News<Observed>, now: Instant) {
        let Some(state) = self.targets.get_mut(index) else {
            return;
        };
        match news {
            News::Begin => state.listing.begin(),
            News::Listed(key, found) => {
                state.listing.listed(&key);
                let version = found.version;
                let object = state.objects.entry(key).or_default();
                object.see(Some(found), version);
            }
            News::Complete => {
                for key in state.listing.finish(state.objects.keys()) {
                    if let Some(object) = state.objects.get_mut(&key) {
                        object.found = None;
                    }
                }
                self.update_queue_for_all(index, now);
            }
            News::Changed(key, found) => {
                let version = found.version;
                self.see(index, &key, Some(found), version, now);
            }
            News::Gone(key, version) => self.see(index, &key, None, version, now),
            News::Broken(why) => state.listing.broke(why),
        }
    }

    fn see(
        &mut self,
        i: Index,
        key: &ObjectKey,
        found: Option<Observed>,
        version: u64,
        now: Instant,
    ) {
        let is_desired = self.is_desired(i, key);
        let Some(state) = self.targets.get_mut(i) else {
            return;
        };
        state.listing.follows();
        let was_in_step = state.is_up_to_date(key);
        let other = found.as_ref().and_then(|found| found.other.clone());
        let object = state.objects.entry(key.clone()).or_default();
        if !object.see(found, version) {
            return;
        }
        if was_in_step && is_desired && !state.is_up_to_date(key) {
            let object = state.objects.entry(key.clone()).or_default();
            object.overwritten(now);
            if object.conflict.should_report() {
                tracing::warn!(
                    cluster = self.cluster,
                    target = state.target.name(),
                    namespace = key.as_deref().unwrap_or_default(),
                    object = state.target.described(),
                    other = other.as_deref().unwrap_or("unknown, it deletes the object"),
                    "somebody else writes this trust bundle again and again: from now on it is \
                     put back ever more slowly; stop the other writer"
                );
            }
        }
        self.update_queue(i, key, Priority::Fresh, now);
    }

    /// Takes a write's answer.
    pub(super) fn on_outcome(&mut self, i: Index, key: &ObjectKey, outcome: Outcome, now: Instant) {
        let Some(state) = self.targets.get_mut(i) else {
            return;
        };
        let object = state.objects.entry(key.clone()).or_default();
        object.writing = false;
        let wait = match outcome {
            Outcome::Written(found) => {
                object.wrote(found);
                state.writes += 1;
                return self.update_queue(i, key, Priority::Fresh, now);
            }
            Outcome::NamespaceGone => {
                object.found = None;
                GONE_CHECK
            }
            Outcome::Refused(why) | Outcome::Trouble(why, _) | Outcome::Down(why) => {
                object.failure = Some(why);
                object.failures = object.failures.saturating_add(1);
                backoff::after(object.failures, AGAIN, AGAIN_AT_MOST)
            }
        };
        if self.is_desired(i, key) {
            self.queue.delay((i, key.clone()), now + wait);
        }
    }

    /// The next write to make.
    pub(super) fn next(&mut self, now: Instant) -> Option<Write> {
        while let Some((index, key)) = self.queue.pop(now) {
            let is_desired = self.is_desired(index, &key);
            let Some(state) = self.targets.get_mut(index) else {
                continue;
            };
            if !is_desired || state.is_up_to_date(&key) {
                continue;
            }
            let Some(desired) = &state.desired else {
                continue;
            };
            let object = desired.object(&state.target, key.as_deref());
            let target = Arc::clone(&state.target);
            state.objects.entry(key.clone()).or_default().writing = true;
            return Some(Write {
                index,
                target,
                key,
                object,
            });
        }
        None
    }

    /// Whether there is anything to write.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.queue.is_ready(now)
    }

    /// When what waits for its time is next due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// The objects that a target is to have.
    pub(super) fn desired_keys(&self, state: &TargetState) -> Vec<ObjectKey> {
        match state.target.kind() {
            TargetKind::ClusterTrustBundle { .. } => vec![None],
            TargetKind::ConfigMap { .. } => {
                let wants =
                    |seen: &NamespaceSeen| !seen.is_going && state.target.wants(&seen.labels);
                let all = self.namespaces.iter().filter(|(_, seen)| wants(seen));
                all.map(|(name, _)| name.clone()).collect()
            }
        }
    }

    /// Whether it is known what stands in the cluster, so that what is not seen is not there.
    pub(super) fn is_synced(&self, state: &TargetState) -> bool {
        let needs_namespaces = matches!(state.target.kind(), TargetKind::ConfigMap { .. });
        state.listing.is_complete() && (!needs_namespaces || self.listing.is_complete())
    }

    fn is_desired(&self, index: Index, key: &ObjectKey) -> bool {
        let Some(state) = self.targets.get(index) else {
            return false;
        };
        match state.target.kind() {
            TargetKind::ClusterTrustBundle { .. } => key.is_none(),
            TargetKind::ConfigMap { .. } => self
                .namespaces
                .get(key)
                .is_some_and(|seen| !seen.is_going && state.target.wants(&seen.labels)),
        }
    }

    fn update_queue_for_all(&mut self, index: Index, now: Instant) {
        let wanted = self
            .targets
            .get(index)
            .map(|state| self.desired_keys(state));
        for key in wanted.unwrap_or_default() {
            self.update_queue(index, &key, Priority::Bulk, now);
        }
    }

    fn update_queue(&mut self, index: Index, key: &ObjectKey, priority: Priority, now: Instant) {
        let task = (index, key.clone());
        let is_desired = self.is_desired(index, key);
        let is_synced = self
            .targets
            .get(index)
            .is_some_and(|state| self.is_synced(state));
        let Some(state) = self.targets.get_mut(index) else {
            return;
        };
        let in_step = state.is_up_to_date(key);
        let has_desired = state.desired.is_some();
        let object = state.objects.entry(key.clone()).or_default();
        if in_step {
            object.failure = None;
            object.failures = 0;
        }
        if in_step || !is_desired || !has_desired {
            return self.queue.remove(&task);
        }
        // A write under way is judged at its end.
        if !is_synced || object.writing {
            return;
        }
        match object
            .conflict
            .delay()
            .filter(|_| object.conflict.is_active(now))
        {
            Some(_) if self.queue.is_delayed(&task) => {}
            Some(wait) => self.queue.delay(task, now + wait),
            None => {
                // Something has changed there: what failed before may succeed now.
                if priority == Priority::Fresh && self.queue.is_delayed(&task) {
                    self.queue.remove(&task);
                }
                self.queue.push(task, priority);
            }
        }
    }

    fn forget(&mut self, name: &ObjectKey) {
        self.namespaces.remove(name);
        for (index, state) in self.targets.iter_mut().enumerate() {
            if matches!(state.target.kind(), TargetKind::ConfigMap { .. }) {
                state.objects.remove(name);
                self.queue.remove(&(index, name.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
