//! A work queue that holds each item once, ordered by priority, with a backoff for items that fail.

mod shared;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Bound::Excluded;
use std::time::{Duration, Instant};

use crate::backoff;

pub(super) use shared::SharedQueue;

/// When an item is handled, compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// Before all others.
    Fresh,
    /// Not before this time; in the order of these times.
    At(Instant),
    /// When nothing else is due.
    Bulk,
}

/// The priority, and a number that keeps items of one priority in the order of their arrival.
type Position = (Priority, u64);

#[derive(Debug)]
pub(super) struct WorkQueue<T> {
    items: HashMap<T, Item>,
    waiting: BTreeMap<Position, T>,
    sequence: u64,
    first_delay: Duration,
    max_delay: Duration,
}

#[derive(Debug)]
struct Item {
    status: Status,
    failures: u32,
}

#[derive(Debug)]
enum Status {
    Waiting(Position),
    InProgress {
        /// Added again in the meantime.
        is_dirty: bool,
    },
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// The delays are those of [`Self::retry`].
    pub(super) fn new(first_delay: Duration, max_delay: Duration) -> Self {
        Self {
            items: HashMap::new(),
            waiting: BTreeMap::new(),
            sequence: 0,
            first_delay,
            max_delay,
        }
    }

    /// Adds an item. One that waits keeps its position, unless it is [`Priority::Fresh`] now; one in
    /// progress is added when it is done.
    pub(super) fn add(&mut self, item: T, priority: Priority) {
        match self.items.get_mut(&item).map(|known| &mut known.status) {
            None => self.insert(item, priority),
            Some(Status::InProgress { is_dirty }) => *is_dirty = true,
            Some(Status::Waiting((old, _))) => {
                if priority == Priority::Fresh && *old != Priority::Fresh {
                    self.insert(item, priority);
                }
            }
        }
    }

    /// Lets an item wait until `due`, whatever its status was.
    pub(super) fn delay(&mut self, item: T, due: Instant) {
        self.insert(item, Priority::At(due));
    }

    /// Lets a failed item wait, longer after each failure in a row.
    pub(super) fn retry(&mut self, item: T, now: Instant) {
        let failures = self.items.get(&item).map_or(0, |known| known.failures);
        let failures = failures.saturating_add(1);
        let wait = backoff::delay(failures, self.first_delay, self.max_delay);
        self.delay(item.clone(), now + wait);
        if let Some(known) = self.items.get_mut(&item) {
            known.failures = failures;
        }
    }

    /// Removes an item that waits, and its failures.
    pub(super) fn remove(&mut self, item: &T) {
        match self.items.get_mut(item).map(|known| &mut known.status) {
            None => {}
            Some(Status::InProgress { is_dirty }) => *is_dirty = false,
            Some(Status::Waiting(position)) => {
                self.waiting.remove(position);
                self.items.remove(item);
            }
        }
    }

    /// The next item that is due; it is in progress until [`Self::done`], [`Self::retry`] or
    /// [`Self::delay`].
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        let position = self.next_position(now)?;
        let item = self.waiting.remove(&position)?;
        if let Some(known) = self.items.get_mut(&item) {
            known.status = Status::InProgress { is_dirty: false };
        }
        Some(item)
    }

    /// Ends the progress of an item and forgets its failures.
    pub(super) fn done(&mut self, item: &T, now: Instant) {
        if let Some(known) = self.items.remove(item)
            && matches!(known.status, Status::InProgress { is_dirty: true })
        {
            self.insert(item.clone(), Priority::At(now));
        }
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.next_position(now).is_some()
    }

    /// When the first of the delayed items is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let bounds = (
            Excluded((Priority::Fresh, u64::MAX)),
            Excluded((Priority::Bulk, 0)),
        );
        match self.waiting.range(bounds).next()? {
            ((Priority::At(due), _), _) => Some(*due),
            _ => None,
        }
    }

    pub(super) fn is_delayed(&self, item: &T) -> bool {
        let status = self.items.get(item).map(|known| &known.status);
        matches!(status, Some(Status::Waiting((Priority::At(_), _))))
    }

    pub(super) fn is_in_progress(&self, item: &T) -> bool {
        let status = self.items.get(item).map(|known| &known.status);
        matches!(status, Some(Status::InProgress { .. }))
    }

    pub(super) fn contains(&self, item: &T) -> bool {
        self.items.contains_key(item)
    }

    /// The number of items, those in progress included.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn insert(&mut self, item: T, priority: Priority) {
        self.sequence += 1;
        let position = (priority, self.sequence);
        let known = self.items.entry(item.clone()).or_insert(Item {
            status: Status::InProgress { is_dirty: false },
            failures: 0,
        });
        if let Status::Waiting(old) = &known.status {
            self.waiting.remove(old);
        }
        known.status = Status::Waiting(position);
        self.waiting.insert(position, item);
    }

    fn next_position(&self, now: Instant) -> Option<Position> {
        let (first, _) = self.waiting.first_key_value()?;
        match first {
            (Priority::At(due), _) if *due > now => {
                let bulk = self.waiting.range((Priority::Bulk, 0)..).next();
                bulk.map(|(position, _)| *position)
            }
            _ => Some(*first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue<T: Clone + Eq + Hash>() -> (WorkQueue<T>, Instant) {
        (WorkQueue::new(SECOND, 8 * SECOND), Instant::now())
    }

    #[test]
    fn fresh_items_go_before_the_bulk_and_each_is_there_once() {
        let (mut queue, now) = queue();
        for item in 0..5 {
            queue.add(item, Priority::Bulk);
        }
        queue.add(9, Priority::Fresh);
        queue.add(3, Priority::Fresh);
        queue.add(9, Priority::Bulk);
        queue.remove(&1);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(order, [9, 3, 0, 2, 4]);
        assert!(!queue.is_ready(now));
    }

    #[test]
    fn a_delayed_item_is_not_popped_before_it_is_due() {
        let (mut queue, now) = queue();
        queue.delay("late", now + 2 * SECOND);
        queue.delay("soon", now + SECOND);
        queue.add("late", Priority::Bulk);
        assert!(!queue.is_ready(now) && queue.is_delayed(&"late"));
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_due(), Some(now + SECOND));
        queue.add("bulk", Priority::Bulk);
        assert_eq!(queue.pop(now + SECOND), Some("soon"));
        assert_eq!(queue.pop(now + SECOND), Some("bulk"));
        queue.remove(&"late");
        assert_eq!(queue.pop(now + 3 * SECOND), None);
        // Removed and added again, it is there once.
        queue.add("late", Priority::Bulk);
        queue.add("late", Priority::Fresh);
        assert_eq!(queue.pop(now), Some("late"));
        assert_eq!(queue.pop(now), None);
    }

    #[test]
    fn failures_are_counted_until_the_item_is_done() {
        let (mut queue, now) = queue();
        queue.add("a", Priority::Fresh);
        let mut due = now;
        for wait in [1, 2, 4, 8, 8] {
            assert_eq!(queue.pop(due), Some("a"));
            queue.retry("a", due);
            assert_eq!(queue.pop(due + SECOND * wait * 3 / 4 - SECOND / 100), None);
            due += SECOND * wait;
        }
        assert_eq!(queue.pop(due), Some("a"));
        queue.done(&"a", due);
        queue.add("a", Priority::Fresh);
        assert_eq!(queue.pop(due), Some("a"));
        queue.retry("a", due);
        assert!(queue.is_ready(due + SECOND));
    }

    #[test]
    fn an_item_in_progress_is_not_handed_out_twice() {
        let (mut queue, now) = queue();
        queue.add("a", Priority::Bulk);
        assert_eq!(queue.pop(now), Some("a"));
        queue.add("a", Priority::Fresh);
        assert!(queue.is_in_progress(&"a") && !queue.is_ready(now));
        queue.done(&"a", now);
        assert_eq!(queue.pop(now), Some("a"), "it was added while in progress");
        queue.done(&"a", now);
        assert_eq!((queue.pop(now), queue.len()), (None, 0));
    }
}
