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
}

#[derive(Debug)]
struct Node<T> {
    /// Those that have had no turn since they last had no work, in order of arrival.
    newcomers: VecDeque<u64>,
    /// The others with work, in the order of their turns.
    turns: VecDeque<u64>,
    newcomers_in_a_row: u8,
    /// All work below.
    len: usize,
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
            len: 0,
            children: HashMap::new(),
            work: VecDeque::new(),
        }
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

impl<T> FairQueue<T> {
    pub fn len(&self) -> usize {
        self.root.len
    }

    pub fn is_empty(&self) -> bool {
        self.root.len == 0
    }

    /// How many are served before new work of `share` would be, at most, if nothing else comes.
    pub fn ahead(&self, share: &Share) -> usize {
        self.root.ahead(&share.levels)
    }

    pub fn push(&mut self, share: &Share, work: T) {
        let mut node = &mut self.root;
        for key in share.levels {
            node.len += 1;
            if !node.children.contains_key(&key) {
                node.newcomers.push_back(key);
            }
            node = node.children.entry(key).or_default();
        }
        node.len += 1;
        node.work.push_back(work);
    }

    /// The next by turns.
    pub fn pop(&mut self) -> Option<T> {
        self.root.pop()
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.work.is_empty() && self.children.is_empty()
    }

    /// In its own share's turns: one for each that is ahead there, and its own. Each other share has as many
    /// turns meanwhile, or fewer newcomers come first.
    fn ahead(&self, levels: &[u64]) -> usize {
        let Some((key, below)) = levels.split_first() else {
            return self.work.len();
        };
        let Some(own) = self.children.get(key) else {
            let others = self.newcomers.len();
            let between = others / usize::from(NEWCOMERS_IN_A_ROW) + 1;
            return self.len.min(others + between);
        };
        let own_ahead = own.ahead(below);
        let others = self.children.len().saturating_sub(1);
        // With each turn of the others, newcomers among them may have one more.
        let turns = others.saturating_mul(own_ahead + 2);
        own_ahead + turns.min(self.len.saturating_sub(own.len))
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
        self.len = self.len.saturating_sub(1);
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

    /// In random queues: new work is served after no more than was said, and it is not all of the queue for
    /// one that has little.
    #[test]
    fn what_is_ahead_of_new_work_is_bounded() {
        let mut seed = 1_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for _ in 0..300 {
            let mut queue = FairQueue::default();
            let mut any = |most: u32| {
                let (domain, cluster) = (random(3).to_string(), random(2).to_string());
                Share::new(&domain, &cluster, &random(most))
            };
            for step in 0..200 {
                queue.push(&any(4), false);
                if step % 3 == 0 {
                    queue.pop();
                }
            }
            for share in [any(4), any(9), Share::new("new", "", "x")] {
                let (ahead, all) = (queue.ahead(&share), queue.len());
                assert!(ahead <= all);
                if share == Share::new("new", "", "x") {
                    assert!(ahead <= 5, "{ahead} of {all}");
                }
                queue.push(&share, true);
                let mut served = 0;
                let mut left = Vec::new();
                while let Some(is_it) = queue.pop() {
                    if is_it {
                        break;
                    }
                    served += 1;
                    left.push(is_it);
                }
                assert!(served <= ahead, "{served} of {all} were served, not {ahead}");
                for _ in left {
                    queue.push(&any(4), false);
                }
            }
        }
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
