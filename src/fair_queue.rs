//! A queue in which those who wait take turns at each level of a [`Share`]: who sends much waits behind its
//! own work, and who had nothing queued is served before those that are always there.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::LazyLock;

/// Differs in each process, so that nobody can choose names that share a turn.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The names of a share are kept as 64 bits each: two that fall together take turns as one.
pub fn key_of(name: &(impl Hash + ?Sized)) -> u64 {
    HASHER.hash_one(name)
}

/// For whom something is done. Each level has its own turns within the level above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    levels: [u64; Self::LEVELS],
}

impl Share {
    pub const LEVELS: usize = 3;

    pub fn new(trust_domain: &str, cluster: &str, caller: &(impl Hash + ?Sized)) -> Self {
        let domain = key_of(trust_domain);
        let cluster = key_of(&(domain, cluster));
        let caller = key_of(&(cluster, key_of(caller)));
        Self {
            levels: [domain, cluster, caller],
        }
    }

    /// This process's own work.
    pub fn own(purpose: &str) -> Self {
        // No trust domain has this name.
        Self::new("", "", purpose)
    }

    pub fn is_own(&self) -> bool {
        self.levels.first() == Some(&key_of(""))
    }

    /// One key for each level; that of a lower level includes those above it.
    pub fn levels(&self) -> [u64; Self::LEVELS] {
        self.levels
    }
}

/// So many newcomers are served in a row while others wait, so that a stream of them delays nobody for
/// ever.
const NEWCOMERS_IN_A_ROW: u8 = 8;

/// Its memory is that of what waits: a share without work has no entry.
#[derive(Debug)]
pub struct FairQueue<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    /// Those that have had no turn since they last had no work, in order of arrival.
    newcomers: VecDeque<u64>,
    /// The others with work, in the order of their turns.
    turns: VecDeque<u64>,
    newcomers_in_a_row: u8,
    children: HashMap<u64, Node<T>>,
    /// Only at the lowest level.
    work: VecDeque<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            newcomers: VecDeque::new(),
            turns: VecDeque::new(),
            newcomers_in_a_row: 0,
            children: HashMap::new(),
            work: VecDeque::new(),
        }
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, share: &Share, work: T) {
        let mut node = &mut self.root;
        for key in share.levels {
            if !node.children.contains_key(&key) {
                node.newcomers.push_back(key);
            }
            node = node.children.entry(key).or_default();
        }
        node.work.push_back(work);
        self.len += 1;
    }

    /// The next by turns.
    pub fn pop(&mut self) -> Option<T> {
        let work = self.root.pop()?;
        self.len -= 1;
        Some(work)
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.work.is_empty() && self.children.is_empty()
    }

    fn next(&mut self) -> Option<u64> {
        let others_first = self.newcomers_in_a_row >= NEWCOMERS_IN_A_ROW && !self.turns.is_empty();
        if !others_first && let Some(key) = self.newcomers.pop_front() {
            self.newcomers_in_a_row = self.newcomers_in_a_row.saturating_add(1);
            return Some(key);
        }
        self.newcomers_in_a_row = 0;
        self.turns.pop_front()
    }

    fn pop(&mut self) -> Option<T> {
        let Some(key) = self.next() else {
            return self.work.pop_front();
        };
        let child = self.children.get_mut(&key)?;
        let work = child.pop();
        match child.is_empty() {
            true => drop(self.children.remove(&key)),
            false => self.turns.push_back(key),
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn domains_then_clusters_then_callers_take_turns() {
        let mut queue = FairQueue::default();
        let of = |domain, cluster, caller: &str| Share::new(domain, cluster, caller);
        for _ in 0..3 {
            queue.push(&of("a", "east", "x"), "a/east/x");
        }
        queue.push(&of("a", "east", "y"), "a/east/y");
        queue.push(&of("a", "west", "x"), "a/west/x");
        queue.push(&of("b", "", "x"), "b");
        queue.push(&of("b", "", "x"), "b");
        assert_eq!(queue.len(), 7);
        let order = drained(&mut queue);
        assert_eq!(
            order,
            [
                "a/east/x", "b", "a/west/x", "b", "a/east/y", "a/east/x", "a/east/x"
            ]
        );
    }

    #[test]
    fn what_has_no_work_takes_no_memory() {
        let mut queue = FairQueue::default();
        for caller in 0..1000_u32 {
            queue.push(&Share::new("a", "c", &caller), caller);
        }
        // The order of arrival, when all have the same work.
        assert!((0..1000).all(|caller| queue.pop() == Some(caller)));
        assert!(queue.is_empty() && queue.pop().is_none());
        assert!(queue.root.children.is_empty() && queue.root.newcomers.is_empty());
    }

    #[test]
    fn a_newcomer_is_served_before_those_that_are_always_there() {
        let mut queue = FairQueue::default();
        for _ in 0..100 {
            queue.push(&Share::new("a", "", "x"), "a");
        }
        assert_eq!(queue.pop(), Some("a"));
        for _ in 0..3 {
            queue.push(&Share::new("b", "", "x"), "b");
        }
        let next: Vec<_> = std::iter::from_fn(|| queue.pop()).take(6).collect();
        assert_eq!(next, ["b", "a", "b", "a", "b", "a"]);
    }

    #[test]
    fn a_stream_of_newcomers_delays_nobody_for_ever() {
        let mut queue = FairQueue::default();
        for _ in 0..100 {
            queue.push(&Share::new("a", "", "x"), usize::MAX);
        }
        let mut of_a = 0;
        for newcomer in 0..90 {
            queue.push(&Share::new("a", "", &newcomer), newcomer);
            of_a += usize::from(queue.pop() == Some(usize::MAX));
        }
        assert_eq!(of_a, 11);
    }
}
