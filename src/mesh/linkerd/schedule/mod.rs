//! When a proxy is told to have another certificate.
//!
//! A proxy sleeps 70 % of what is left until `valid_until` and looks at nothing else, without
//! jitter of its own. So proxies that start together would come back together for ever, and one
//! that is told the truth (notAfter) has only 30 % of its life to outlast an outage. `valid_until`
//! is therefore earlier than notAfter: by a margin, and by a draw of its own for each certificate.

use std::time::Duration;

use crate::clock::UnixTime;

/// How far `valid_until` lies before notAfter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// What is always left of a certificate at `valid_until`.
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

    /// Whether a certificate of this lifetime keeps a quarter of it to be used in.
    pub fn fits(&self, lifetime: Duration) -> bool {
        self.whole() <= u128::from((lifetime - lifetime / 4).as_secs())
    }

    /// Both together, in seconds: a configuration may hold spans whose sum is no [`Duration`].
    fn whole(&self) -> u128 {
        u128::from(self.outage_margin.as_secs()) + u128::from(self.jitter.as_secs())
    }

    /// The `valid_until` of a certificate that is issued at `now` and ends at `not_after`; `draw`
    /// is a random number. A certificate that its issuer's end has cut short has margin and jitter
    /// cut short alike, so that a quarter of its life at least lies before `valid_until`.
    pub fn valid_until(&self, now: UnixTime, not_after: UnixTime, draw: u64) -> UnixTime {
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
        let drawn = (u128::from(jitter.as_secs()) * u128::from(draw)) >> u64::BITS;
        let drawn = Duration::from_secs(u64::try_from(drawn).unwrap_or(0));
        not_after.minus(margin).minus(drawn)
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
