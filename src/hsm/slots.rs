//! The places in a token's queue: bounded, and never all of one share's requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::SignError;
use crate::fair_queue::Share;

/// How many times the free slots a trust domain, a cluster and a caller may hold. The more one holds,
/// the more it leaves: a newcomer finds room without a limit that would be too low for one alone.
const OF_FREE: [(usize, &str); Share::LEVELS] = [
    (8, "this trust domain"),
    (4, "this cluster"),
    (2, "this caller"),
];

/// How many of `queue` slots one caller alone gets.
pub fn most_of_one_caller(queue: usize) -> usize {
    let [.., (times, _)] = OF_FREE;
    // It gets another one while it holds fewer than so many times what is free then.
    (queue.saturating_mul(times)).div_ceil(times + 1)
}

/// The shortest queue in which one caller alone gets so many slots.
pub fn queue_for(slots: usize) -> usize {
    let [.., (times, _)] = OF_FREE;
    let near = slots + slots / times;
    (near.saturating_sub(2)..)
        .find(|queue| most_of_one_caller(*queue) >= slots)
        .unwrap_or(near)
}

#[derive(Debug)]
pub(super) struct Slots {
    /// How many requests may have a slot.
    all: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    used: usize,
    /// Slots by the keys of [`Share::levels`].
    held: HashMap<u64, usize>,
    /// How many shares of the next level have slots, by the key of their share.
    below: HashMap<u64, usize>,
}

/// In `below`: of which all trust domains are.
const ALL: u64 = 0;

/// A place in the queue, from before the request is recorded until a worker takes it.
#[derive(Debug)]
pub(super) struct QueueSlot {
    slots: Arc<Slots>,
    share: Share,
}

impl Slots {
    pub(super) fn new(all: usize) -> Self {
        Self {
            all,
            inner: Mutex::default(),
        }
    }

    /// This server's own work, of which there is little, may take the last slot.
    ///
    /// # Errors
    /// [`SignError::Busy`], [`SignError::ShareInUse`].
    pub(super) fn reserve(self: &Arc<Self>, share: Share) -> Result<QueueSlot, SignError> {
        let mut inner = self.lock();
        inner.room_for(self.all, share)?;
        inner.used += 1;
        let mut above = ALL;
        for key in share.levels() {
            let held = inner.held.entry(key).or_default();
            *held += 1;
            if *held == 1 {
                *inner.below.entry(above).or_default() += 1;
            }
            above = key;
        }
        Ok(QueueSlot {
            slots: Arc::clone(self),
            share,
        })
    }

    /// Whether a slot could be reserved now.
    ///
    /// # Errors
    /// As [`Self::reserve`].
    pub(super) fn look(&self, share: Share) -> Result<(), SignError> {
        self.lock().room_for(self.all, share)
    }

    /// How many of those that have a slot are served before a new request of `share`, about: in its own
    /// share's turns, and each other share has as many.
    pub(super) fn ahead(&self, share: Share) -> usize {
        self.lock().ahead(share)
    }

    pub(super) fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn room_for(&self, all: usize, share: Share) -> Result<(), SignError> {
        let free = all.saturating_sub(self.used);
        if free == 0 {
            return Err(SignError::Busy);
        }
        for (key, (times, whose)) in share.levels().iter().zip(OF_FREE) {
            let held = self.held.get(key).copied().unwrap_or_default();
            if held >= free.saturating_mul(times) && !share.is_own() {
                return Err(SignError::ShareInUse(whose));
            }
        }
        Ok(())
    }
}

impl Inner {
    fn ahead(&self, share: Share) -> usize {
        let levels = share.levels();
        let held = |key: &u64| self.held.get(key).copied().unwrap_or_default();
        let mut ahead = levels.last().map_or(0, held);
        for (level, key) in levels.iter().enumerate().rev() {
            let above = level.checked_sub(1).and_then(|above| levels.get(above));
            let (all, own) = (above.map_or(self.used, held), held(key));
            let shares = self.below.get(above.unwrap_or(&ALL));
            let others = shares.copied().unwrap_or_default() - usize::from(own > 0);
            let turns = others.saturating_mul(ahead + 1);
            ahead += turns.min(all.saturating_sub(own));
        }
        ahead
    }
}

impl QueueSlot {
    /// Whose turn it waits for.
    pub(super) fn share(&self) -> Share {
        self.share
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut inner = self.slots.lock();
        inner.used = inner.used.saturating_sub(1);
        let mut above = ALL;
        for key in self.share.levels() {
            let Inner { held, below, .. } = &mut *inner;
            if subtract_one(held, key) {
                subtract_one(below, above);
            }
            above = key;
        }
    }
}

/// Whether none is left.
fn subtract_one(counts: &mut HashMap<u64, usize>, key: u64) -> bool {
    let Some(count) = counts.get_mut(&key) else {
        return false;
    };
    *count = count.saturating_sub(1);
    let none = *count == 0;
    if none {
        counts.remove(&key);
    }
    none
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take(queue: &Arc<Slots>, share: Share, most: usize) -> Vec<QueueSlot> {
        (0..most).map_while(|_| queue.reserve(share).ok()).collect()
    }

    #[test]
    fn a_flood_leaves_room_at_each_level() {
        let queue = Arc::new(Slots::new(2048));
        let share = |domain: &str, cluster: &str, caller: &str| Share::new(domain, cluster, caller);
        let caller = take(&queue, share("a", "east", "x"), 5000);
        let refused = queue.reserve(share("a", "east", "x")).unwrap_err();
        assert_eq!(refused, SignError::ShareInUse("this caller"));
        // A thousand at once of one caller that is not known by its pod.
        assert!((1000..1400).contains(&caller.len()), "{}", caller.len());
        let callers: Vec<_> = (0..5000)
            .map_while(|n| queue.reserve(share("a", "east", &n.to_string())).ok())
            .collect();
        let refused = queue.reserve(share("a", "east", "new")).unwrap_err();
        assert_eq!(refused, SignError::ShareInUse("this cluster"));
        assert!(callers.len() > 200, "{}", callers.len());
        let clusters: Vec<_> = (0..5000)
            .map_while(|n| queue.reserve(share("a", &format!("c{n}"), "x")).ok())
            .collect();
        let refused = queue.reserve(share("a", "new", "x")).unwrap_err();
        assert_eq!(refused, SignError::ShareInUse("this trust domain"));
        assert!(clusters.len() > 100, "{}", clusters.len());
        let others = take(&queue, share("b", "west", "x"), 100);
        assert_eq!(others.len(), 100, "another trust domain finds room");
        drop((caller, callers, clusters, others));
        let inner = queue.lock();
        assert_eq!((inner.used, inner.held.len(), inner.below.len()), (0, 0, 0));
    }

    #[test]
    fn who_has_little_has_little_ahead_of_it() {
        let queue = Arc::new(Slots::new(10_000));
        let ahead = |domain: &str, cluster: &str, caller: &str| {
            queue.ahead(Share::new(domain, cluster, caller))
        };
        assert_eq!(ahead("a", "east", "x"), 0);
        let flood = take(&queue, Share::new("a", "east", "x"), 100);
        assert_eq!(ahead("a", "east", "x"), 100);
        // One turn of the flood's before its own.
        assert_eq!(ahead("a", "east", "y"), 1);
        assert_eq!(ahead("a", "west", "x"), 1);
        assert_eq!(ahead("b", "", "x"), 1);
        let few = take(&queue, Share::new("a", "east", "y"), 3);
        assert_eq!(ahead("a", "east", "y"), 3 + 4);
        assert_eq!(ahead("a", "east", "x"), 100 + 3);
        // Many with one each: all of them.
        let many: Vec<_> = (0..50)
            .flat_map(|n| take(&queue, Share::new("c", "east", &n), 1))
            .collect();
        assert_eq!(ahead("c", "east", "new"), 50 + 51);
        assert_eq!(ahead("b", "", "x"), 2);
        drop((flood, few, many));
        assert_eq!(ahead("c", "east", "new"), 0);
    }

    #[test]
    fn what_one_caller_alone_gets_is_computed() {
        for queue in [1, 2, 3, 100, 2048, 2049] {
            let slots = Arc::new(Slots::new(queue));
            let alone = take(&slots, Share::new("a", "east", "x"), 5000).len();
            assert_eq!(most_of_one_caller(queue), alone, "{queue}");
            assert!(queue_for(alone) <= queue && most_of_one_caller(queue_for(alone)) >= alone);
        }
    }

    #[test]
    fn own_work_may_take_the_last_slot() {
        let queue = Arc::new(Slots::new(2));
        let one = Share::own("x");
        let held = take(&queue, one, 5);
        assert_eq!(held.len(), 2);
        assert_eq!(queue.reserve(one).unwrap_err(), SignError::Busy);
        drop(held);
        assert!(queue.reserve(one).is_ok());
    }
}
