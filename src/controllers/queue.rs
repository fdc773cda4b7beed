//! Keys of objects that wait for their turn: each once, bounded, with a back-off of its own.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// An object by namespace (empty where its kind has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(100);
/// The longest: a cluster or an HSM that is back is noticed within it.
const LONGEST: Duration = Duration::from_secs(5);

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The most keys that it holds, waiting or at work.
    bound: usize,
    /// Something became due sooner than was known.
    work: Notify,
    /// Something left.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeSet<(Instant, Key)>,
    known: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// When it is due; `None` while it is worked on.
    due: Option<Instant>,
    failures: u32,
    /// It came again while it was worked on.
    again: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::default(),
            bound,
            work: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Adds a key, when there is room for it. One that is known keeps its turn and its back-off.
    pub(super) async fn add(&self, key: Key) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that what leaves meanwhile is not missed.
            room.as_mut().enable();
            if self.try_add(&key) {
                return;
            }
            room.await;
        }
    }

    fn try_add(&self, key: &Key) -> bool {
        let mut state = self.lock();
        if let Some(entry) = state.known.get_mut(key) {
            entry.again |= entry.due.is_none();
            return true;
        }
        if state.known.len() >= self.bound {
            return false;
        }
        let now = Instant::now();
        state.known.insert(key.clone(), Entry::due(now, 0));
        state.waiting.insert((now, key.clone()));
        self.work.notify_one();
        true
    }

    /// The next key whose time has come; it is this worker's until [`Self::done`] or
    /// [`Self::retry`].
    pub(super) async fn next(&self) -> Key {
        loop {
            let wait = match self.take() {
                Ok(key) => return key,
                Err(wait) => wait,
            };
            match wait {
                None => self.work.notified().await,
                Some(due) => tokio::select! {
                    () = self.work.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                },
            }
        }
    }

    fn take(&self) -> Result<Key, Option<Instant>> {
        let mut state = self.lock();
        let Some((due, _)) = state.waiting.first() else {
            return Err(None);
        };
        if *due > Instant::now() {
            return Err(Some(*due));
        }
        let Some((_, key)) = state.waiting.pop_first() else {
            return Err(None);
        };
        if let Some(entry) = state.known.get_mut(&key) {
            entry.due = None;
        }
        // Another worker may sleep until the time that was just taken.
        if !state.waiting.is_empty() {
            self.work.notify_one();
        }
        Ok(key)
    }

    /// The object is handled, unless it came again meanwhile.
    pub(super) fn done(&self, key: Key) {
        let mut state = self.lock();
        let again = state.known.remove(&key).is_some_and(|entry| entry.again);
        if again {
            let now = Instant::now();
            state.known.insert(key.clone(), Entry::due(now, 0));
            state.waiting.insert((now, key));
            self.work.notify_one();
        } else {
            self.room.notify_waiters();
        }
    }

    /// The object is to be tried again, later each time.
    pub(super) fn retry(&self, key: Key) {
        let mut state = self.lock();
        let failures = state.known.get(&key).map_or(0, |entry| entry.failures);
        let due = Instant::now() + wait(failures);
        state
            .known
            .insert(key.clone(), Entry::due(due, failures.saturating_add(1)));
        state.waiting.insert((due, key));
        self.work.notify_one();
    }

    /// How many keys wait or are worked on.
    pub(super) fn len(&self) -> usize {
        self.lock().known.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn due(at: Instant, failures: u32) -> Self {
        Self {
            due: Some(at),
            failures,
            again: false,
        }
    }
}

/// How long to wait after so many failures: doubled each time, and from one half of that to the
/// whole, so that what failed together does not come back together.
pub(super) fn wait(failures: u32) -> Duration {
    let whole = FIRST
        .saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(LONGEST);
    let half = whole / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(RandomState::new().hash_one(failures) % spread)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: String::new(),
            name: name.to_owned(),
        }
    }

    async fn nothing(queue: &Queue) -> bool {
        let brief = Duration::from_millis(20);
        tokio::time::timeout(brief, queue.next()).await.is_err()
    }

    #[tokio::test]
    async fn each_key_is_once_at_work() {
        let queue = Queue::new(10);
        queue.add(key("a")).await;
        queue.add(key("a")).await;
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a")).await;
        assert!(nothing(&queue).await, "nobody else has it meanwhile");
        queue.done(key("a"));
        assert_eq!(queue.next().await, key("a"), "it came again while at work");
        queue.done(key("a"));
        assert!(nothing(&queue).await);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_failure_waits_and_holds_up_no_other() {
        let queue = Queue::new(10);
        queue.add(key("bad")).await;
        for _ in 0..3 {
            assert_eq!(queue.next().await, key("bad"));
            queue.retry(key("bad"));
            // Seen again by the watch: it keeps its turn.
            queue.add(key("bad")).await;
            queue.add(key("good")).await;
            assert_eq!(queue.next().await, key("good"));
            queue.done(key("good"));
        }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        for failures in 0..40 {
            let whole = (FIRST * 2u32.pow(failures.min(10))).min(LONGEST);
            let waited = wait(failures);
            assert!(
                waited >= whole / 2 && waited <= whole,
                "{failures}: {waited:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_watch_wait() {
        let queue = Queue::new(1);
        queue.add(key("a")).await;
        let brief = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(brief, queue.add(key("b")))
                .await
                .is_err()
        );
        let taken = queue.next().await;
        let (added, ()) = tokio::join!(queue.add(key("b")), async { queue.done(taken) });
        let () = added;
        assert_eq!(queue.next().await, key("b"));
    }
}
