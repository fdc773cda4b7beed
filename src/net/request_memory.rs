//! The memory of requests in flight: a limit for the whole listener and for each source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::source::Source;

#[derive(Debug)]
pub(super) struct RequestMemory {
    limit: usize,
    limit_of_source: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    sources: HashMap<Source, usize>,
}

/// A part of the memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<RequestMemory>,
    source: Source,
    bytes: usize,
}

impl RequestMemory {
    pub(super) fn new(limit: usize, limit_of_source: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_of_source,
            used: Mutex::default(),
        })
    }

    /// `None` when so much is not left for `source`.
    pub(super) fn share(self: &Arc<Self>, source: Source, bytes: usize) -> Option<Share> {
        let mut share = Share {
            memory: Arc::clone(self),
            source,
            bytes: 0,
        };
        share.grow(bytes).then_some(share)
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// False, and nothing changes, when so much is not left.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let memory = &self.memory;
        let mut used = memory.lock();
        let all = used.all.saturating_add(bytes);
        let own = used.sources.get(&self.source).map_or(0, |own| *own);
        let own = own.saturating_add(bytes);
        if all > memory.limit || (!self.source.is_shared && own > memory.limit_of_source) {
            return false;
        }
        used.all = all;
        used.sources.insert(self.source, own);
        self.bytes += bytes;
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less == 0 {
            return;
        }
        self.bytes -= less;
        let mut used = self.memory.lock();
        used.all = used.all.saturating_sub(less);
        if let Some(own) = used.sources.get_mut(&self.source) {
            *own = own.saturating_sub(less);
            if *own == 0 {
                used.sources.remove(&self.source);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(text.parse().unwrap(), &["10.9.0.0/16".parse().unwrap()])
    }

    #[test]
    fn one_source_leaves_the_others_their_part() {
        let memory = RequestMemory::new(100, 40);
        let mut first = memory.share(source("10.0.0.1"), 30).unwrap();
        assert!(first.grow(10) && !first.grow(1));
        assert!(memory.share(source("10.0.0.1"), 1).is_none());
        let proxy = memory.share(source("10.9.0.1"), 60).unwrap();
        assert!(memory.share(source("10.0.0.2"), 1).is_none());
        drop(proxy);
        first.shrink_to(5);
        assert!(first.grow(35));
        let second = memory.share(source("10.0.0.2"), 40).unwrap();
        drop((first, second));
        let used = memory.lock();
        assert!(used.all == 0 && used.sources.is_empty(), "{used:?}");
    }
}
