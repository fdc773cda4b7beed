//! A bounded memory of what was decided a short while ago.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a memory that is full stays so, before it is searched again for what can leave.
const SEARCH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    most: usize,
    life: Duration,
    entries: Mutex<Entries<K, V>>,
}

#[derive(Debug)]
struct Entries<K, V> {
    /// Each with its end.
    by_key: HashMap<K, (Instant, V)>,
    searched: Option<Instant>,
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    pub(super) fn new(most: usize, life: Duration) -> Self {
        Self {
            most,
            life,
            entries: Mutex::new(Entries {
                by_key: HashMap::new(),
                searched: None,
            }),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.lock();
        let (end, value) = entries.by_key.get(key)?;
        (*end > Instant::now()).then(|| value.clone())
    }

    /// While the memory is full of what is still valid, nothing new is remembered.
    pub(super) fn put(&self, key: K, value: V) {
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.by_key.len() >= self.most && !entries.by_key.contains_key(&key) {
            let is_due = |at: Instant| now.duration_since(at) >= SEARCH;
            if entries.searched.is_none_or(is_due) {
                entries.searched = Some(now);
                entries.by_key.retain(|_, (end, _)| *end > now);
            }
            if entries.by_key.len() >= self.most {
                return;
            }
        }
        entries.by_key.insert(key, (now + self.life, value));
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_entries_and_time() {
        let short = Remembered::new(3, Duration::ZERO);
        short.put(1, "a");
        assert_eq!(short.get(&1), None);
        let memory = Remembered::new(3, Duration::from_secs(600));
        for key in 0..10 {
            memory.put(key, "b");
        }
        assert_eq!((memory.get(&0), memory.get(&9)), (Some("b"), None));
        assert_eq!(memory.lock().by_key.len(), 3);
        memory.put(0, "c");
        assert_eq!(memory.get(&0), Some("c"));
        // What has ended makes room.
        let past = Instant::now();
        memory
            .lock()
            .by_key
            .values_mut()
            .for_each(|entry| entry.0 = past);
        memory.lock().searched = None;
        memory.put(9, "d");
        assert_eq!((memory.get(&9), memory.lock().by_key.len()), (Some("d"), 1));
    }
}
