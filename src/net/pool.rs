//! Slots for connections: a limited number for the whole pool and for each source.
//!
//! When a pool is full, the source that holds the most idle slots loses the one that has been idle
//! longest. A connection is idle while no call is in flight on it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
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
    /// Shows how many are taken.
    gauge: Gauge,
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
    pub(super) fn new(
        size: usize,
        size_of_source: usize,
        in_flight: InFlight,
        gauge: Gauge,
    ) -> Arc<Self> {
        Arc::new(Self {
            size,
            size_of_source,
            in_flight,
            slots: Mutex::default(),
            changed: Notify::new(),
            gauge,
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
        self.gauge
            .set(i64::try_from(slots.taken).unwrap_or(i64::MAX));
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
        let taken = i64::try_from(slots.taken).unwrap_or(i64::MAX);
        self.pool.gauge.set(taken);
        drop(slots);
        self.pool.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn pool(size: usize, of_source: usize, in_flight: InFlight) -> Arc<Pool> {
        Pool::new(size, of_source, in_flight, Gauge::default())
    }

    fn source(text: &str) -> Source {
        Source::new(text.parse().unwrap(), &["10.9.0.0/16".parse().unwrap()])
    }

    fn lost(slots: &[Slot]) -> Vec<bool> {
        slots.iter().map(|slot| slot.lost.is_cancelled()).collect()
    }

    fn is_empty(pool: &Pool) -> bool {
        let slots = pool.lock();
        slots.taken == 0 && slots.sources.is_empty() && slots.by_idle.is_empty()
    }

    #[test]
    fn the_greediest_source_loses_its_oldest_idle_slot() {
        let pool = pool(4, 3, InFlight::Kept);
        let takes = ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"];
        let mut slots: Vec<_> = takes
            .iter()
            .map(|text| pool.take(source(text)).unwrap())
            .collect();
        slots.push(pool.take(source("10.0.0.3")).unwrap());
        assert_eq!(lost(&slots), [false, true, false, false, false]);
        // Among sources with as many, the oldest: after a call, the third is the youngest.
        slots[2].call_starts();
        slots[2].call_ends();
        slots.push(pool.take(source("10.0.0.3")).unwrap());
        assert_eq!(lost(&slots), [false, true, false, true, false, false]);
        drop(slots);
        assert!(is_empty(&pool));
    }

    #[test]
    fn a_source_beyond_its_part_loses_its_own() {
        let pool = pool(10, 2, InFlight::Kept);
        let mine = source("10.0.0.1");
        let other = pool.take(source("10.0.0.2")).unwrap();
        let mut slots: Vec<_> = (0..3).map(|_| pool.take(mine).unwrap()).collect();
        assert_eq!(lost(&slots), [true, false, false]);
        slots.iter().for_each(Slot::call_starts);
        assert!(pool.take(mine).is_none(), "a slot with a call was lost");
        slots[1].call_ends();
        slots.push(pool.take(mine).unwrap());
        assert_eq!(lost(&slots), [true, true, false, false]);
        assert!(!other.lost.is_cancelled());
        // Many clients behind one address.
        let proxy: Vec<_> = (0..7)
            .map(|_| pool.take(source("10.9.0.1")).unwrap())
            .collect();
        assert!(!lost(&proxy).contains(&true));
        drop((slots, other, proxy));
        assert!(is_empty(&pool));
    }

    #[test]
    fn short_calls_are_lost_like_idle_slots() {
        let pool = pool(1, 1, InFlight::Lost);
        let first = pool.take(source("10.0.0.1")).unwrap();
        first.call_starts();
        let second = pool.take(source("10.0.0.2")).unwrap();
        assert!(first.lost.is_cancelled());
        first.call_ends();
        drop(first);
        drop(second);
        assert!(is_empty(&pool));
    }

    #[tokio::test]
    async fn a_slot_is_waited_for() {
        let pool = pool(1, 1, InFlight::Kept);
        let first = pool.take(source("10.0.0.1")).unwrap();
        first.call_starts();
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.wait(source("10.0.0.2")).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        first.call_ends();
        assert!(!waiting.await.unwrap().lost.is_cancelled());
        assert!(first.lost.is_cancelled());
    }
}
