//! A bounded work queue between a watch and its workers.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Priority, WorkQueue};

const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Bounds how long it takes to notice that a cluster or an HSM is available again.
const MAX_DELAY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(in crate::controllers) struct SharedQueue<T> {
    queue: Mutex<WorkQueue<T>>,
    capacity: usize,
    /// An item is due earlier than before.
    ready: Notify,
    /// An item left.
    space: Notify,
}

impl<T: Clone + Eq + Hash> SharedQueue<T> {
    /// `capacity` counts waiting items and those in progress.
    pub(in crate::controllers) fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::new(WorkQueue::new(FIRST_DELAY, MAX_DELAY)),
            capacity,
            ready: Notify::new(),
            space: Notify::new(),
        }
    }

    /// Adds an item, and waits while the queue is full. One that it holds keeps its position and its
    /// backoff.
    pub(in crate::controllers) async fn add(&self, item: T) {
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            // Registered before the attempt: an item that leaves in between is not missed.
            space.as_mut().enable();
            if self.try_add(&item) {
                return;
            }
            space.await;
        }
    }

    fn try_add(&self, item: &T) -> bool {
        let mut queue = self.lock();
        if queue.len() >= self.capacity && !queue.contains(item) {
            return false;
        }
        queue.add(item.clone(), Priority::At(Instant::now()));
        self.ready.notify_one();
        true
    }

    /// The next item that is due; it belongs to the caller until [`Self::done`] or [`Self::retry`].
    pub(in crate::controllers) async fn next(&self) -> T {
        loop {
            let due = {
                let mut queue = self.lock();
                let item = queue.pop(Instant::now());
                let due = queue.next_due();
                if let Some(item) = item {
                    // Another worker may sleep until the time of the item that was just taken.
                    if due.is_some() {
                        self.ready.notify_one();
                    }
                    return item;
                }
                due
            };
            match due {
                None => self.ready.notified().await,
                Some(due) => tokio::select! {
                    () = self.ready.notified() => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                },
            }
        }
    }

    pub(in crate::controllers) fn done(&self, item: &T) {
        let mut queue = self.lock();
        queue.done(item, Instant::now());
        if queue.contains(item) {
            self.ready.notify_one();
        } else {
            self.space.notify_waiters();
        }
    }

    pub(in crate::controllers) fn retry(&self, item: T) {
        self.lock().retry(item, Instant::now());
        self.ready.notify_one();
    }

    /// The number of items that wait or are in progress.
    pub(in crate::controllers) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, WorkQueue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_idle(queue: &SharedQueue<&str>) -> bool {
        let brief = Duration::from_millis(20);
        tokio::time::timeout(brief, queue.next()).await.is_err()
    }

    #[tokio::test]
    async fn an_item_is_in_progress_once() {
        let queue = SharedQueue::new(10);
        queue.add("a").await;
        queue.add("a").await;
        assert_eq!(queue.next().await, "a");
        queue.add("a").await;
        assert!(is_idle(&queue).await);
        queue.done(&"a");
        assert_eq!(queue.next().await, "a", "it was added while in progress");
        queue.done(&"a");
        assert!(is_idle(&queue).await);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_failed_item_waits_and_delays_no_other() {
        let queue = SharedQueue::new(10);
        queue.add("bad").await;
        for _ in 0..3 {
            assert_eq!(queue.next().await, "bad");
            queue.retry("bad");
            // The watch reports it again: it keeps its position.
            queue.add("bad").await;
            queue.add("good").await;
            assert_eq!(queue.next().await, "good");
            queue.done(&"good");
        }
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_watch_wait() {
        let queue = SharedQueue::new(1);
        queue.add("a").await;
        let brief = Duration::from_millis(20);
        let full = tokio::time::timeout(brief, queue.add("b")).await;
        assert!(full.is_err());
        let first = queue.next().await;
        tokio::join!(queue.add("b"), async { queue.done(&first) });
        assert_eq!(queue.next().await, "b");
    }
}
