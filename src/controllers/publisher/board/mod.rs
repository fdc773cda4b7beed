//! What is known of one cluster, and what is to be written there. Pure: news, answers and the time
//! come in, writes to be made go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backoff;
use super::desired::Desired;
use super::listing::Listing;
use super::observed::{Found, Spot, Standing};
use super::queue::{Lane, Queue};
use super::target::{Place, TargetConfig};
use super::watch::{NamespaceSeen, News};
use super::write::Outcome;
use crate::trust::PublishedBundle;

/// The waits of an object whose writes fail.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// When a namespace that was said to be going is asked again, should no watch say more of it.
const GONE_CHECK: Duration = Duration::from_secs(5);

/// The place of a target on the board.
pub(super) type Index = usize;
type Task = (Index, Spot);

/// One write that is to be made now.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) index: Index,
    pub(super) target: Arc<TargetConfig>,
    pub(super) spot: Spot,
    pub(super) object: Value,
}

/// What is known of one cluster.
#[derive(Debug)]
pub(super) struct Board {
    cluster: String,
    pub(super) slots: Vec<Slot>,
    namespaces: BTreeMap<Spot, NamespaceSeen>,
    pub(super) listing: Listing,
    queue: Queue<Task>,
}

/// One target there.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) target: Arc<TargetConfig>,
    pub(super) desired: Option<Desired>,
    /// Why the newest bundle is not published.
    pub(super) refused: Option<String>,
    pub(super) standings: BTreeMap<Spot, Standing>,
    pub(super) listing: Listing,
    pub(super) writes: u64,
}

impl Slot {
    fn is_in_step(&self, spot: &Spot) -> bool {
        let found = self
            .standings
            .get(spot)
            .and_then(|standing| standing.found.as_ref());
        match (&self.desired, found) {
            (Some(desired), Some(found)) => desired.is_in(found),
            _ => false,
        }
    }
}

impl Board {
    pub(super) fn new(cluster: &str, targets: impl Iterator<Item = Arc<TargetConfig>>) -> Self {
        let slot = |target| Slot {
            target,
            desired: None,
            refused: None,
            standings: BTreeMap::new(),
            listing: Listing::default(),
            writes: 0,
        };
        Self {
            cluster: cluster.to_owned(),
            slots: targets.map(slot).collect(),
            namespaces: BTreeMap::new(),
            listing: Listing::default(),
            queue: Queue::default(),
        }
    }

    /// Another version of a target's bundle.
    pub(super) fn desire(&mut self, index: Index, bundle: &Arc<PublishedBundle>, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        match Desired::new(bundle, &slot.target) {
            Ok(desired) => {
                slot.desired = Some(desired);
                slot.refused = None;
            }
            // The last one goes on being kept in place.
            Err(why) => {
                tracing::error!(
                    cluster = self.cluster,
                    target = slot.target.name(),
                    why,
                    "a trust bundle is not published"
                );
                slot.refused = Some(why);
            }
        }
        self.judge_all(index, now);
    }

    /// What the watch of namespaces says.
    pub(super) fn hear_namespaces(&mut self, news: News<NamespaceSeen>, now: Instant) {
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
                (0..self.slots.len()).for_each(|index| self.judge_all(index, now));
            }
            News::Changed(name, seen) => {
                self.listing.follows();
                self.namespaces.insert(name.clone(), seen);
                for index in 0..self.slots.len() {
                    self.judge(index, &name, Lane::Fresh, now);
                }
            }
            News::Gone(name, _) => self.forget(&name),
            News::Broken(why) => self.listing.broke(why),
        }
    }

    /// What the watch of a target's objects says.
    pub(super) fn hear_objects(&mut self, index: Index, news: News<Found>, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        match news {
            News::Begin => slot.listing.begin(),
            News::Listed(spot, found) => {
                slot.listing.listed(&spot);
                let version = found.version;
                let standing = slot.standings.entry(spot).or_default();
                standing.see(Some(found), version);
            }
            News::Complete => {
                for spot in slot.listing.finish(slot.standings.keys()) {
                    if let Some(standing) = slot.standings.get_mut(&spot) {
                        standing.found = None;
                    }
                }
                self.judge_all(index, now);
            }
            News::Changed(spot, found) => {
                let version = found.version;
                self.see(index, &spot, Some(found), version, now);
            }
            News::Gone(spot, version) => self.see(index, &spot, None, version, now),
            News::Broken(why) => slot.listing.broke(why),
        }
    }

    fn see(&mut self, i: Index, spot: &Spot, found: Option<Found>, version: u64, now: Instant) {
        let is_wanted = self.is_wanted(i, spot);
        let Some(slot) = self.slots.get_mut(i) else {
            return;
        };
        slot.listing.follows();
        let was_in_step = slot.is_in_step(spot);
        let other = found.as_ref().and_then(|found| found.other.clone());
        let standing = slot.standings.entry(spot.clone()).or_default();
        if !standing.see(found, version) {
            return;
        }
        if was_in_step && is_wanted && !slot.is_in_step(spot) {
            let standing = slot.standings.entry(spot.clone()).or_default();
            standing.undone(now);
            if standing.fight.begins() {
                tracing::warn!(
                    cluster = self.cluster,
                    target = slot.target.name(),
                    namespace = spot.as_deref().unwrap_or_default(),
                    object = slot.target.described(),
                    other = other.as_deref().unwrap_or("unknown, it deletes the object"),
                    "somebody else writes this trust bundle again and again: from now on it is \
                     put back ever more slowly; stop the other writer"
                );
            }
        }
        self.judge(i, spot, Lane::Fresh, now);
    }

    /// Takes a write's answer.
    pub(super) fn conclude(&mut self, i: Index, spot: &Spot, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slots.get_mut(i) else {
            return;
        };
        let standing = slot.standings.entry(spot.clone()).or_default();
        standing.writing = false;
        let wait = match outcome {
            Outcome::Written(found) => {
                standing.wrote(found);
                slot.writes += 1;
                return self.judge(i, spot, Lane::Fresh, now);
            }
            Outcome::NamespaceGone => {
                standing.found = None;
                GONE_CHECK
            }
            Outcome::Refused(why) | Outcome::Trouble(why, _) | Outcome::Down(why) => {
                standing.failure = Some(why);
                standing.failures = standing.failures.saturating_add(1);
                backoff::after(standing.failures, AGAIN, AGAIN_AT_MOST)
            }
        };
        if self.is_wanted(i, spot) {
            self.queue.delay((i, spot.clone()), now + wait);
        }
    }

    /// The next write to make.
    pub(super) fn next(&mut self, now: Instant) -> Option<Write> {
        while let Some((index, spot)) = self.queue.pop(now) {
            let is_wanted = self.is_wanted(index, &spot);
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if !is_wanted || slot.is_in_step(&spot) {
                continue;
            }
            let Some(desired) = &slot.desired else {
                continue;
            };
            let object = desired.object(&slot.target, spot.as_deref());
            let target = Arc::clone(&slot.target);
            slot.standings.entry(spot.clone()).or_default().writing = true;
            return Some(Write {
                index,
                target,
                spot,
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
    pub(super) fn wanted(&self, slot: &Slot) -> Vec<Spot> {
        match slot.target.place() {
            Place::ClusterTrustBundle { .. } => vec![None],
            Place::ConfigMap { .. } => {
                let wants =
                    |seen: &NamespaceSeen| !seen.is_going && slot.target.wants(&seen.labels);
                let all = self.namespaces.iter().filter(|(_, seen)| wants(seen));
                all.map(|(name, _)| name.clone()).collect()
            }
        }
    }

    /// Whether it is known what stands in the cluster, so that what is not seen is not there.
    pub(super) fn is_known(&self, slot: &Slot) -> bool {
        let needs_namespaces = matches!(slot.target.place(), Place::ConfigMap { .. });
        slot.listing.is_complete() && (!needs_namespaces || self.listing.is_complete())
    }

    fn is_wanted(&self, index: Index, spot: &Spot) -> bool {
        let Some(slot) = self.slots.get(index) else {
            return false;
        };
        match slot.target.place() {
            Place::ClusterTrustBundle { .. } => spot.is_none(),
            Place::ConfigMap { .. } => self
                .namespaces
                .get(spot)
                .is_some_and(|seen| !seen.is_going && slot.target.wants(&seen.labels)),
        }
    }

    fn judge_all(&mut self, index: Index, now: Instant) {
        let wanted = self.slots.get(index).map(|slot| self.wanted(slot));
        for spot in wanted.unwrap_or_default() {
            self.judge(index, &spot, Lane::Bulk, now);
        }
    }

    fn judge(&mut self, index: Index, spot: &Spot, lane: Lane, now: Instant) {
        let task = (index, spot.clone());
        let is_wanted = self.is_wanted(index, spot);
        let is_known = self
            .slots
            .get(index)
            .is_some_and(|slot| self.is_known(slot));
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let in_step = slot.is_in_step(spot);
        let has_desired = slot.desired.is_some();
        let standing = slot.standings.entry(spot.clone()).or_default();
        if in_step {
            standing.failure = None;
            standing.failures = 0;
        }
        if in_step || !is_wanted || !has_desired {
            return self.queue.remove(&task);
        }
        // A write under way is judged at its end.
        if !is_known || standing.writing {
            return;
        }
        match standing.fight.wait().filter(|_| standing.fight.is_on(now)) {
            Some(_) if self.queue.is_delayed(&task) => {}
            Some(wait) => self.queue.delay(task, now + wait),
            None => {
                // Something has changed there: what failed before may succeed now.
                if lane == Lane::Fresh && self.queue.is_delayed(&task) {
                    self.queue.remove(&task);
                }
                self.queue.push(task, lane);
            }
        }
    }

    fn forget(&mut self, name: &Spot) {
        self.namespaces.remove(name);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if matches!(slot.target.place(), Place::ConfigMap { .. }) {
                slot.standings.remove(name);
                self.queue.remove(&(index, name.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
