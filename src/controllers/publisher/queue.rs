//! What is to be written, in which order: fresh news first, then what waited for its time, then
//! the bulk. Holds each key once, so it is never longer than there are objects.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// How urgent a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Somebody waits for it: a new namespace, a repair.
    Fresh,
    /// One of many.
    Bulk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    In(Priority),
    Until(Instant, u64),
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Queue<T> {
    known: HashMap<T, Waits>,
    fresh: VecDeque<T>,
    bulk: VecDeque<T>,
    /// By due time; the number keeps two with one time apart.
    later: BTreeSet<(Instant, u64)>,
    later_items: HashMap<u64, T>,
    count: u64,
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            fresh: VecDeque::new(),
            bulk: VecDeque::new(),
            later: BTreeSet::new(),
            later_items: HashMap::new(),
            count: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// Is to be written. What waits for its time goes on waiting; what is in the bulk is moved up
    /// when it turns fresh.
    pub(super) fn push(&mut self, item: T, priority: Priority) {
        match (self.known.get(&item), priority) {
            (None, _) | (Some(Waits::In(Priority::Bulk)), Priority::Fresh) => {}
            _ => return,
        }
        self.known.insert(item.clone(), Waits::In(priority));
        match priority {
            Priority::Fresh => self.fresh.push_back(item),
            Priority::Bulk => self.bulk.push_back(item),
        }
    }

    /// Is to be written, but not before `until`.
    pub(super) fn delay(&mut self, item: T, until: Instant) {
        self.remove(&item);
        self.count += 1;
        self.later.insert((until, self.count));
        self.later_items.insert(self.count, item.clone());
        self.known.insert(item, Waits::Until(until, self.count));
    }

    /// Whether it waits for its time.
    pub(super) fn is_delayed(&self, item: &T) -> bool {
        matches!(self.known.get(item), Some(Waits::Until(..)))
    }

    /// Is not to be written any more.
    pub(super) fn remove(&mut self, item: &T) {
        // In the lanes it is passed over when its turn comes.
        if let Some(Waits::Until(until, count)) = self.known.remove(item) {
            self.later.remove(&(until, count));
            self.later_items.remove(&count);
        }
    }

    /// The next one.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if let Some(item) = self.pop_lane(Priority::Fresh) {
            return Some(item);
        }
        if let Some((_, count)) = self.later.first().copied().filter(|(due, _)| *due <= now)
            && let Some(item) = self.later_items.get(&count).cloned()
        {
            self.remove(&item);
            return Some(item);
        }
        self.pop_lane(Priority::Bulk)
    }

    /// Whether anything can be written at `now`.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.known.len() > self.later.len() || self.next_due().is_some_and(|due| due <= now)
    }

    /// When what waits for its time is next due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    fn pop_lane(&mut self, priority: Priority) -> Option<T> {
        let items = match priority {
            Priority::Fresh => &mut self.fresh,
            Priority::Bulk => &mut self.bulk,
        };
        while let Some(item) = items.pop_front() {
            if self.known.get(&item) == Some(&Waits::In(priority)) {
                self.known.remove(&item);
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fresh_news_goes_before_the_bulk() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for item in 0..5 {
            queue.push(item, Priority::Bulk);
        }
        queue.push(9, Priority::Fresh);
        queue.push(3, Priority::Fresh);
        queue.push(9, Priority::Bulk);
        queue.remove(&1);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(order, [9, 3, 0, 2, 4]);
        assert!(!queue.is_ready(now));
    }

    #[test]
    fn what_is_delayed_comes_in_its_time_and_not_before() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let second = Duration::from_secs(1);
        queue.delay("late", now + 2 * second);
        queue.delay("soon", now + second);
        queue.push("late", Priority::Fresh);
        assert!(!queue.is_ready(now));
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_due(), Some(now + second));
        queue.push("bulk", Priority::Bulk);
        assert_eq!(queue.pop(now + second), Some("soon"));
        assert_eq!(queue.pop(now + second), Some("bulk"));
        queue.remove(&"late");
        assert_eq!(queue.pop(now + 3 * second), None);
        // Removed and pushed again, it is there once.
        queue.push("late", Priority::Bulk);
        assert_eq!(queue.pop(now), Some("late"));
        assert_eq!(queue.pop(now), None);
    }
}
