//! The time that leases are given and compared with.

use std::time::Duration;

use crate::clock::{Clock, UnixTime};
use crate::ledger::{Ledger, LedgerError};

/// The clock's time, if it agrees with that of the store.
///
/// Servers compare each other's leases with their own clocks, and renew each time a third of the lease
/// has passed. Two clocks that are each less than a sixth away from the store's leave a lease that is
/// renewed in time valid for both.
///
/// # Errors
/// [`LedgerError::Unavailable`]: with a clock that is further away a server would conclude what others
/// still work on, or have its own work concluded.
pub(super) async fn lease_time(
    ledger: &dyn Ledger,
    clock: &dyn Clock,
    lease: Duration,
) -> Result<UnixTime, LedgerError> {
    let before = clock.now();
    let Some(store) = ledger.time().await? else {
        return Ok(before);
    };
    let after = clock.now();
    match difference(before, store, after, lease) {
        None => Ok(after),
        Some(difference) => Err(LedgerError::Unavailable {
            reason: format!(
                "this machine's clock is {difference} the database's, which says {store}: set both by \
                 NTP, since servers compare their leases with them"
            ),
        }),
    }
}

/// How far the clock is from the store's, when that is too far. The store was asked between `before` and
/// `after`: a slow answer makes no difference.
fn difference(
    before: UnixTime,
    store: UnixTime,
    after: UnixTime,
    lease: Duration,
) -> Option<String> {
    // Both clocks count whole seconds.
    let allowed = lease / 6 + Duration::from_secs(1);
    let (ahead, behind) = (before.since(store), store.since(after));
    if ahead > allowed {
        Some(format!("{ahead:?} ahead of"))
    } else if behind > allowed {
        Some(format!("{behind:?} behind"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_difference() {
        let lease = Duration::from_secs(30);
        let at = |secs: i64| UnixTime::from_secs(1_800_000_000 + secs);
        for (before, store, after, expected) in [
            (0, 0, 0, None),
            (0, 30, 60, None),
            (0, 6, 0, None),
            (6, 0, 6, None),
            (0, 66, 60, None),
            (7, 0, 60, Some("7s ahead of")),
            (0, 67, 60, Some("7s behind")),
            (0, 3600, 1, Some("3599s behind")),
        ] {
            let found = difference(at(before), at(store), at(after), lease);
            assert_eq!(found.as_deref(), expected, "{before} {store} {after}");
        }
    }
}
