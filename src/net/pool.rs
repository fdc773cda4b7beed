//! Slots for connections: a limited number for the whole pool and for each source.
//!
//! When a pool is full, the source that holds the most idle slots loses the one that has been idle
//! longest. A connection is idle while no call is in flight on it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::source::Source;

/// What a slot does while a call is in flight on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    /// It is kept until the call ends.
    Kept,
    /// It can be lost like an idle one: for connections whose calls are short.
    Lost,
}

#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    size_of_source: usize,
    in_flight: InFlight,
    slots: Mutex<Slots>,
    /// A slot is free, or became idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    taken: usize,
    /// Of the next slot that becomes idle.
    next: u64,
    sources: HashMap<Source, OfSource>,
    /// The sources with idle slots: how many, and which has been idle longest.
    by_idle: BTreeSet<(usize, Reverse<u64>, Source)>,
}

#[derive(Debug, Default)]
struct OfSource {
    taken: usize,
    /// In the order in which they became idle.
    idle: BTreeMap<u64, CancellationToken>,
}

/// A taken slot; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Arc<Pool>,
    source: Source,
    /// Cancelled when another connection needs the slot.
    lost: CancellationToken,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    calls: usize,
    /// Its key among the idle ones of its source.
    idle: u64,
    idle_since: Instant,
}

impl Pool {
    pub(super) fn new(size: usize, size_of_source: usize, in_flight: InFlight) -> Arc<Self> {
        Arc::new(Self {
            size,
            size_of_source,
            in_flight,
            slots: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A slot, if need be in place of an idle one. `None`: all that `source` may have are in use.
    pub(super) fn take(self: &Arc<Self>, source: Source) -> Option<Slot> {
        let mut slots = self.lock();
        let of_source = slots.sources.get(&source).map_or(0, |own| own.taken);
        if !source.is_shared && of_source >= self.size_of_source && !slots.free_one_of(source) {
            return None;
        }
        if slots.taken >= self.size && !slots.free_one() {
            return None;
        }
        let lost = CancellationToken::new();
        slots.taken += 1;
        slots.sources.entry(source).or_default().taken += 1;
        let idle = slots.add_idle(source, lost.clone());
        drop(slots);
        Some(Slot {
            pool: Arc::clone(self),
            source,
            lost,
            usage: Mutex::new(Usage {
                calls: 0,
                idle,
                idle_since: Instant::now(),
            }),
        })
    }

    /// Waits for a slot.
    pub(super) async fn wait(self: &Arc<Self>, source: Source) -> Slot {
        loop {
            // Before the attempt, so that a slot that becomes free after it is not missed.
            let changed = self.changed.notified();
            if let Some(slot) = self.take(source) {
                return slot;
            }
            changed.await;
        }
    }

    /// Slots that are taken now.
    pub(super) fn taken(&self) -> usize {
        self.lock().taken
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn add_idle(&mut self, source: Source, lost: CancellationToken) -> u64 {
        self.next += 1;
        let key = self.next;
        self.change(source, |own| {
            own.idle.insert(key, lost);
        });
        key
    }

    /// Whether it was there: otherwise the slot is lost.
    fn remove_idle(&mut self, source: Source, key: u64) -> bool {
        self.change(source, |own| own.idle.remove(&key).is_some())
    }

    /// Frees the slot of any source that has been idle longest, among those of the greediest.
    fn free_one(&mut self) -> bool {
        let greediest = self.by_idle.last().map(|(_, _, source)| *source);
        greediest.is_some_and(|source| self.free_one_of(source))
    }

    fn free_one_of(&mut self, source: Source) -> bool {
        let Some((_, lost)) = self.change(source, |own| own.idle.pop_first()) else {
            return false;
        };
        self.free(source);
        lost.cancel();
        true
    }

    fn free(&mut self, source: Source) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(own) = self.sources.get_mut(&source) {
            own.taken = own.taken.saturating_sub(1);
            if own.taken == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Keeps `by_idle` up to date with what `edit` changes.
    fn change<T>(&mut self, source: Source, edit: impl FnOnce(&mut OfSource) -> T) -> T {
        let own = self.sources.entry(source).or_default();
        if let Some(entry) = own.entry(source) {
            self.by_idle.remove(&entry);
        }
        let result = edit(own);
        self.by_idle.extend(own.entry(source));
        result
    }
}

impl OfSource {
    fn entry(&self, source: Source) -> Option<(usize, Reverse<u64>, Source)> {
        let (oldest, _) = self.idle.first_key_value()?;
        Some((self.idle.len(), Reverse(*oldest), source))
    }
}

impl Slot {
    /// Ends when another connection has got the slot.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// How long no call has been in flight; `None` while one is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let usage = self.usage();
        (usage.calls == 0).then(|| usage.idle_since.elapsed())
    }

    pub(super) fn call_starts(&self) {
        let mut usage = self.usage();
        usage.calls += 1;
        if usage.calls == 1 && self.pool.in_flight == InFlight::Kept {
            self.pool.lock().remove_idle(self.source, usage.idle);
        }
    }

    pub(super) fn call_ends(&self) {
        let mut usage = self.usage();
        usage.calls = usage.calls.saturating_sub(1);
        if usage.calls > 0 {
            return;
        }
        usage.idle_since = Instant::now();
        if self.pool.in_flight == InFlight::Kept && !self.lost.is_cancelled() {
            usage.idle = self.pool.lock().add_idle(self.source, self.lost.clone());
            self.pool.changed.notify_waiters();
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let idle = self.usage().idle;
        let mut slots = self.pool.lock();
        if self.lost.is_cancelled() {
            return;
        }
        slots.remove_idle(self.source, idle);
        slots.free(self.source);
        drop(slots);
        self.pool.changed.notify_waiters();
    }
}
