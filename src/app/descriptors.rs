//! The process's limit of open files (RLIMIT_NOFILE), against which the listeners' limits are held.

use std::fs;

use crate::admin::SOCKETS as ADMIN;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What a server opens beside connections: clusters, key sets, files that are read again.
const OTHERS: usize = 128;

/// How many connections fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) admin: usize,
    /// For each listener, in their order.
    pub(super) listeners: Vec<usize>,
}

/// Raises the soft limit to what `wanted` needs, up to the hard limit. No further: a PKCS#11 module
/// that uses select(2) fails with descriptors beyond 1023. Returns the limit, and how many are open.
pub(super) fn raise(wanted: &[usize]) -> (usize, usize) {
    let open = fs::read_dir("/proc/self/fd").map_or(OTHERS, |all| all.count());
    let needed = open + OTHERS + ADMIN + wanted.iter().sum::<usize>();
    let mut limits = getrlimit(Resource::Nofile);
    let needed_here = u64::try_from(needed).unwrap_or(u64::MAX);
    if let Some(soft) = limits.current.filter(|soft| *soft < needed_here) {
        let raised = limits
            .maximum
            .map_or(needed_here, |hard| needed_here.min(hard));
        limits.current = Some(raised);
        match setrlimit(Resource::Nofile, limits) {
            Ok(()) if raised > soft => tracing::info!(
                from = soft,
                to = raised,
                "the limit of open files is raised"
            ),
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "the limit of open files cannot be raised");
                limits.current = Some(soft);
            }
        }
    }
    let limit = limits.current.unwrap_or(u64::MAX);
    (usize::try_from(limit).unwrap_or(usize::MAX), open)
}

/// Divides the descriptors that are left. `None`: everything that is wanted fits.
pub(super) fn places(limit: usize, open: usize, wanted: &[usize]) -> Option<Places> {
    let left = limit.saturating_sub(open);
    let all: usize = wanted.iter().sum();
    if left >= OTHERS + ADMIN + all {
        return None;
    }
    // A probe that gets no answer ends the process, so that it comes first.
    let admin = ADMIN.min(left / 8).max(4);
    // The ledger's readers and the token's sessions open a dozen in any case.
    let others = OTHERS.min((left / 4).max(16));
    let callers = left.saturating_sub(admin + others);
    let share = |wanted: &usize| (callers * wanted / all.max(1)).max(1).min(*wanted);
    Some(Places {
        admin,
        listeners: wanted.iter().map(share).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(places(usize::MAX, 30, &[10_000, 10_000]), None);
        assert_eq!(places(30 + OTHERS + ADMIN + 100, 30, &[60, 40]), None);
    }

    #[test]
    fn what_does_not_fit_is_shared_in_proportion_and_never_exceeds_the_limit() {
        for limit in [40, 64, 256, 1024, 4096, 19_999] {
            let wanted = [10_000, 5_000, 100];
            let Some(places) = places(limit, 25, &wanted) else {
                continue;
            };
            let used = 25 + places.admin + places.listeners.iter().sum::<usize>();
            assert!(used < limit, "{limit}: {places:?}");
            assert!(places.admin >= 1, "{limit}: {places:?}");
            assert!(
                places.listeners.is_sorted_by(|a, b| a >= b),
                "{limit}: {places:?}"
            );
            assert!(
                places.listeners.iter().all(|most| *most >= 1),
                "{limit}: {places:?}"
            );
        }
        let found = places(1024, 24, &[10_000]);
        let expected = Places {
            admin: 64,
            listeners: vec![808],
        };
        assert_eq!(found, Some(expected));
    }
}
