//! The time at which a proxy should have renewed its certificate.
//!
//! A proxy sleeps for 70 % of the time until `valid_until`, without jitter. With notAfter as
//! `valid_until`, proxies that start together would always renew together, and would have only 30 %
//! of the lifetime to survive an outage. `valid_until` is therefore before notAfter: by a margin,
//! and by a random time for each certificate.

use std::time::Duration;

use crate::clock::UnixTime;

/// How far `valid_until` is before notAfter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The remaining lifetime at `valid_until`, at least.
    pub outage_margin: Duration,
    /// The span over which `valid_until` is spread, evenly, before that.
    pub jitter: Duration,
}

impl Schedule {
    /// Margin and jitter of a lifetime for which none are configured: a sixth and a third of it.
    pub fn of_lifetime(lifetime: Duration) -> Self {
        Self {
            outage_margin: lifetime / 6,
            jitter: lifetime / 3,
        }
    }

    /// Whether a quarter of this lifetime, at least, is before `valid_until`.
    pub fn fits(&self, lifetime: Duration) -> bool {
        self.whole() <= u128::from((lifetime - lifetime / 4).as_secs())
    }

    /// Both together, in seconds: a configuration may hold spans whose sum is no [`Duration`].
    fn whole(&self) -> u128 {
        u128::from(self.outage_margin.as_secs()) + u128::from(self.jitter.as_secs())
    }

    /// The `valid_until` of a certificate that is issued at `now` and expires at `not_after`; `random`
    /// is evenly distributed. If the issuer's notAfter shortens the lifetime, margin and jitter are
    /// shortened alike, so that a quarter of the lifetime, at least, is before `valid_until`.
    pub fn valid_until(&self, now: UnixTime, not_after: UnixTime, random: u64) -> UnixTime {
        let left = not_after.since(now);
        let most = left - left / 4;
        let whole = self.whole();
        let (margin, jitter) = match whole > u128::from(most.as_secs()) {
            true => (
                part(self.outage_margin, most, whole),
                part(self.jitter, most, whole),
            ),
            false => (self.outage_margin, self.jitter),
        };
        let delay = (u128::from(jitter.as_secs()) * u128::from(random)) >> u64::BITS;
        let delay = Duration::from_secs(u64::try_from(delay).unwrap_or(0));
        not_after.minus(margin).minus(delay)
    }
}

/// `span * most / whole`, in whole seconds.
fn part(span: Duration, most: Duration, whole: u128) -> Duration {
    let secs = u128::from(span.as_secs()) * u128::from(most.as_secs());
    let secs = secs / whole.max(1);
    Duration::from_secs(u64::try_from(secs).unwrap_or(0))
}

#[cfg(test)]
mod tests;
