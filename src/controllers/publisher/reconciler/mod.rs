//! Compares what one cluster has with what it is to have, and decides what to write. Without I/O:
//! events, outcomes and the time come in, writes go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::desired::Desired;
use super::list_state::ListState;
use super::object_state::{ObjectKey, ObjectState, Observed};
use super::target::{TargetConfig, TargetKind};
use super::watch::{KeyedEvent, NamespaceState};
use super::write::Outcome;
use crate::cluster::WatchEvent;
use crate::controllers::queue::{Priority, WorkQueue};
use crate::trust::PublishedBundle;

/// The backoff of an object whose writes fail.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// When to write again into a namespace that was terminating, unless a watch reports it earlier.
const TERMINATING_DELAY: Duration = Duration::from_secs(5);

/// A target's index in [`Reconciler::targets`].
pub(super) type Index = usize;
type Task = (Index, ObjectKey);
type Namespaces = BTreeMap<ObjectKey, NamespaceState>;

/// A write to be made now.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) index: Index,
    pub(super) target: Arc<TargetConfig>,
    pub(super) key: ObjectKey,
    pub(super) object: Value,
}

/// The state of one cluster.
#[derive(Debug)]
pub(super) struct Reconciler {
    cluster: String,
    pub(super) targets: Vec<TargetState>,
    namespaces: Namespaces,
    pub(super) list: ListState,
    queue: WorkQueue<Task>,
}

/// The state of one target in the cluster.
#[derive(Debug)]
pub(super) struct TargetState {
    pub(super) target: Arc<TargetConfig>,
    pub(super) desired: Option<Desired>,
    /// Why the newest bundle is not published.
    pub(super) refused: Option<String>,
    pub(super) objects: BTreeMap<ObjectKey, ObjectState>,
    pub(super) list: ListState,
    pub(super) writes: u64,
    /// Who changed an object last that was as it should be.
    pub(super) last_edit: Option<Edit>,
}

/// A change by somebody else of an object that was up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// The field manager; `None` for one that deleted the object.
    by: Option<String>,
    namespace: ObjectKey,
}

impl std::fmt::Display for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.by {
            Some(manager) => write!(f, "{manager:?} changed the object")?,
            None => f.write_str("somebody deleted the object")?,
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl TargetState {
    fn new(target: Arc<TargetConfig>) -> Self {
        Self {
            target,
            desired: None,
            refused: None,
            objects: BTreeMap::new(),
            list: ListState::default(),
            writes: 0,
            last_edit: None,
        }
    }

    pub(super) fn is_up_to_date(&self, key: &ObjectKey) -> bool {
        let object = self.objects.get(key);
        let observed = object.and_then(|object| object.observed.as_ref());
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| observed.is_some_and(|observed| desired.is_in(observed)))
    }

    fn is_in_namespaces(&self) -> bool {
        matches!(self.target.kind(), TargetKind::ConfigMap { .. })
    }

    /// Whether the target is to have this object.
    fn is_desired(&self, namespaces: &Namespaces, key: &ObjectKey) -> bool {
        match self.is_in_namespaces() {
            true => namespaces.get(key).is_some_and(|seen| self.selects(seen)),
            false => key.is_none(),
        }
    }

    fn selects(&self, namespace: &NamespaceState) -> bool {
        !namespace.is_terminating && self.target.selects(&namespace.labels)
    }
}

impl Reconciler {
    pub(super) fn new(cluster: &str, targets: impl Iterator<Item = Arc<TargetConfig>>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            targets: targets.map(TargetState::new).collect(),
            namespaces: BTreeMap::new(),
            list: ListState::default(),
            queue: WorkQueue::new(FIRST_DELAY, MAX_DELAY),
        }
    }

    /// Publishes another version of a target's bundle. One that the target cannot hold is reported,
    /// and the version before it stays published.
    pub(super) fn set_bundle(&mut self, index: Index, bundle: &Arc<PublishedBundle>, now: Instant) {
        let Some(state) = self.targets.get_mut(index) else {
            return;
        };
        match Desired::new(bundle, &state.target) {
            Ok(desired) => {
                state.desired = Some(desired);
                state.refused = None;
            }
            Err(why) => {
                tracing::error!(
                    cluster = self.cluster,
                    bundle_target = state.target.name(),
                    why,
                    "a trust bundle is not published"
                );
                state.refused = Some(why);
            }
        }
        self.update_queue_for_all(index, now);
    }

    pub(super) fn on_namespace_event(&mut self, event: KeyedEvent<NamespaceState>, now: Instant) {
        match event {
            WatchEvent::ListStarted => self.list.start(),
            WatchEvent::Listed((name, seen)) => {
                self.list.add(&name);
                self.namespaces.insert(name, seen);
            }
            WatchEvent::ListComplete(_) => {
                for name in self.list.complete(self.namespaces.keys()) {
                    self.forget(&name);
                }
                (0..self.targets.len()).for_each(|index| self.update_queue_for_all(index, now));
            }
            WatchEvent::Changed((name, seen)) => {
                self.list.recover();
                self.namespaces.insert(name.clone(), seen);
                for index in 0..self.targets.len() {
                    self.update_queue((index, name.clone()), Priority::Fresh, now);
                }
            }
            WatchEvent::Deleted((name, _)) => self.forget(&name),
            WatchEvent::UpToDate(_) => self.list.recover(),
            WatchEvent::Failed(error) => self.list.fail(error.to_string()),
        }
    }

    pub(super) fn on_object_event(
        &mut self,
        index: Index,
        event: KeyedEvent<Observed>,
        now: Instant,
    ) {
        let Some(state) = self.targets.get_mut(index) else {
            return;
        };
        match event {
            WatchEvent::ListStarted => state.list.start(),
            WatchEvent::Listed((key, observed)) => {
                state.list.add(&key);
                let version = observed.version;
                let object = state.objects.entry(key).or_default();
                object.on_watch(Some(observed), version);
            }
            WatchEvent::ListComplete(_) => {
                for key in state.list.complete(state.objects.keys()) {
                    if let Some(object) = state.objects.get_mut(&key) {
                        object.observed = None;
                    }
                }
                self.update_queue_for_all(index, now);
            }
            WatchEvent::Changed((key, observed)) => {
                let version = observed.version;
                self.on_object_change((index, key), Some(observed), version, now);
            }
            WatchEvent::Deleted((key, last)) => {
                self.on_object_change((index, key), None, last.version, now);
            }
            WatchEvent::UpToDate(_) => state.list.recover(),
            WatchEvent::Failed(error) => state.list.fail(error.to_string()),
        }
    }

    fn on_object_change(
        &mut self,
        task: Task,
        observed: Option<Observed>,
        version: u64,
        now: Instant,
    ) {
        let (index, key) = &task;
        let Some(state) = self.targets.get_mut(*index) else {
            return;
        };
        state.list.recover();
        let was_up_to_date = state.is_up_to_date(key);
        let other = observed
            .as_ref()
            .and_then(|found| found.other_manager.clone());
        let object = state.objects.entry(key.clone()).or_default();
        if !object.on_watch(observed, version) {
            return;
        }
        if was_up_to_date
            && !state.is_up_to_date(key)
            && state.is_desired(&self.namespaces, key)
            && let Some(object) = state.objects.get_mut(key)
        {
            state.last_edit = Some(Edit {
                by: other.clone(),
                namespace: key.clone(),
            });
            object.conflict.on_overwrite(now);
            if object.conflict.should_report() {
                tracing::warn!(
                    cluster = self.cluster,
                    bundle_target = state.target.name(),
                    namespace = key.as_deref().unwrap_or_default(),
                    object = state.target.described(),
                    other = other.as_deref().unwrap_or("unknown, it deletes the object"),
                    "another writer keeps changing the object: this server writes the trust bundle \
                     there more and more slowly; stop the other writer"
                );
            }
        }
        self.update_queue(task, Priority::Fresh, now);
    }

    /// Takes over what came of a write.
    pub(super) fn on_outcome(&mut self, i: Index, key: &ObjectKey, outcome: Outcome, now: Instant) {
        let task = (i, key.clone());
        let Some(state) = self.targets.get_mut(i) else {
            return;
        };
        let object = state.objects.entry(key.clone()).or_default();
        let is_terminating = match outcome {
            Outcome::Written(observed) => {
                object.on_written(observed);
                state.writes += 1;
                self.queue.done(&task, now);
                return self.update_queue(task, Priority::Fresh, now);
            }
            Outcome::NamespaceGone => {
                object.observed = None;
                true
            }
            Outcome::Refused(why) | Outcome::Overloaded(why, _) | Outcome::Unreachable(why) => {
                object.failure = Some(why);
                false
            }
        };
        match (state.is_desired(&self.namespaces, key), is_terminating) {
            (true, true) => self.queue.delay(task, now + TERMINATING_DELAY),
            (true, false) => self.queue.retry(task, now),
            (false, _) => self.queue.done(&task, now),
        }
    }

    /// The next write to make.
    pub(super) fn next(&mut self, now: Instant) -> Option<Write> {
        while let Some(task) = self.queue.pop(now) {
            if let Some(write) = self.write(&task) {
                return Some(write);
            }
            self.queue.done(&task, now);
        }
        None
    }

    fn write(&self, (index, key): &Task) -> Option<Write> {
        let state = self.targets.get(*index)?;
        if !state.is_desired(&self.namespaces, key) || state.is_up_to_date(key) {
            return None;
        }
        let desired = state.desired.as_ref()?;
        Some(Write {
            index: *index,
            target: Arc::clone(&state.target),
            key: key.clone(),
            object: desired.object(&state.target, key.as_deref()),
        })
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.queue.is_ready(now)
    }

    /// When the next delayed write is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// The objects that a target is to have.
    pub(super) fn desired_keys(&self, state: &TargetState) -> Vec<ObjectKey> {
        if !state.is_in_namespaces() {
            return vec![None];
        }
        let namespaces = self.namespaces.iter();
        let selected = namespaces.filter(|(_, seen)| state.selects(seen));
        selected.map(|(name, _)| name.clone()).collect()
    }

    /// Whether every list is complete, so that an object that was not observed does not exist.
    pub(super) fn is_synced(&self, state: &TargetState) -> bool {
        state.list.is_complete() && (!state.is_in_namespaces() || self.list.is_complete())
    }

    fn update_queue_for_all(&mut self, index: Index, now: Instant) {
        let keys = self.targets.get(index).map(|s| self.desired_keys(s));
        for key in keys.unwrap_or_default() {
            self.update_queue((index, key), Priority::Bulk, now);
        }
    }

    /// Queues an object that differs from what is desired, and removes any other.
    fn update_queue(&mut self, task: Task, priority: Priority, now: Instant) {
        let (index, key) = &task;
        let Some(state) = self.targets.get(*index) else {
            return;
        };
        let is_synced = self.is_synced(state);
        let is_up_to_date = state.is_up_to_date(key);
        let is_desired = state.is_desired(&self.namespaces, key) && state.desired.is_some();
        let object = state.objects.get(key);
        let conflict = object.and_then(|object| object.conflict.delay(now));
        if is_up_to_date || !is_desired {
            self.queue.remove(&task);
            let state = self.targets.get_mut(*index);
            if let Some(object) = state.and_then(|state| state.objects.get_mut(key))
                && is_up_to_date
            {
                object.failure = None;
            }
            return;
        }
        // The outcome of a write in progress updates the queue again.
        if !is_synced || self.queue.is_in_progress(&task) {
            return;
        }
        match conflict {
            Some(_) if self.queue.is_delayed(&task) => {}
            Some(delay) => self.queue.delay(task, now + delay),
            // After a change, a write that failed before may succeed.
            None => self.queue.add(task, priority),
        }
    }

    fn forget(&mut self, namespace: &ObjectKey) {
        self.namespaces.remove(namespace);
        for (index, state) in self.targets.iter_mut().enumerate() {
            if state.is_in_namespaces() {
                state.objects.remove(namespace);
                self.queue.remove(&(index, namespace.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
