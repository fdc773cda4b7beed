//! Wrong secrets: who presents several has to wait.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many wrong secrets in a window, then none is looked at until it ends.
const MOST_WRONG: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Who is known at a time; the rest share one count.
const MOST_KEYS: usize = 4096;
const OVERFLOW: u64 = 0;

/// Counts wrong secrets for each role and address, so that nobody locks out another host's.
#[derive(Debug, Default)]
pub(super) struct Lockout(Mutex<HashMap<u64, Wrong>>);

#[derive(Debug)]
struct Wrong {
    count: u32,
    until: Instant,
}

impl Lockout {
    /// How long no secret of `role` is looked at; `None` when one may be tried.
    pub(super) fn locked(&self, role: &str, address: Option<IpAddr>) -> Option<Duration> {
        self.locked_at(key(role, address), Instant::now())
    }

    pub(super) fn wrong(&self, role: &str, address: Option<IpAddr>) {
        self.wrong_at(key(role, address), Instant::now());
    }

    pub(super) fn right(&self, role: &str, address: Option<IpAddr>) {
        self.table().remove(&key(role, address));
    }

    fn locked_at(&self, key: u64, now: Instant) -> Option<Duration> {
        let table = self.table();
        let is_full = table.len() >= MOST_KEYS && !table.contains_key(&key);
        let wrong = table.get(if is_full { &OVERFLOW } else { &key })?;
        let is_locked = wrong.count >= MOST_WRONG && now < wrong.until;
        is_locked.then(|| wrong.until - now)
    }

    fn wrong_at(&self, key: u64, now: Instant) {
        let mut table = self.table();
        if table.len() >= MOST_KEYS && !table.contains_key(&key) {
            table.retain(|_, wrong| now < wrong.until);
        }
        let key = match table.len() < MOST_KEYS || table.contains_key(&key) {
            true => key,
            false => OVERFLOW,
        };
        let until = now + WINDOW;
        let wrong = table.entry(key).or_insert(Wrong { count: 0, until });
        if now >= wrong.until {
            *wrong = Wrong { count: 0, until };
        }
        wrong.count = wrong.count.saturating_add(1);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Wrong>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(role: &str, address: Option<IpAddr>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (role, address).hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_secrets_lock_one_role_of_one_address() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        for _ in 1..MOST_WRONG {
            lockout.wrong_at(7, now);
            assert_eq!(lockout.locked_at(7, now), None);
        }
        lockout.wrong_at(7, now);
        assert_eq!(lockout.locked_at(7, now), Some(WINDOW));
        assert_eq!(lockout.locked_at(8, now), None);
        assert_eq!(lockout.locked_at(7, now + WINDOW), None);
        // The next window counts from nothing.
        lockout.wrong_at(7, now + WINDOW);
        assert_eq!(lockout.locked_at(7, now + WINDOW), None);
    }

    #[test]
    fn the_memory_is_bounded_and_what_does_not_fit_is_counted_together() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        for key in 1..=10_000 {
            lockout.wrong_at(key, now);
        }
        assert!(lockout.table().len() <= MOST_KEYS + 1);
        assert_eq!(lockout.locked_at(20_000, now), Some(WINDOW));
        assert_eq!(lockout.locked_at(1, now), None);
        lockout.wrong_at(30_000, now + WINDOW);
        assert_eq!(lockout.locked_at(20_000, now + WINDOW), None);
    }
}
