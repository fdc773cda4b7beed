//! When an issuing CA is renewed, and when a request is tried again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::backoff;
use crate::clock::UnixTime;
use crate::ledger::{CaRequestRecord, CaRequestState};
use crate::x509::Certificate;

/// How far the time of a renewal is spread to either side, so that authorities of one age are not
/// renewed together.
pub(super) const JITTER_PERCENT: u8 = 5;
/// The longest pause after refusals.
const LONGEST_AFTER_REFUSAL: Duration = Duration::from_secs(86_400);

/// The part of an issuing CA's life after which it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RenewAt(u8);

impl RenewAt {
    pub(super) const HALF: Self = Self(50);

    pub(super) const fn percent(self) -> u8 {
        self.0
    }
}

impl FromStr for RenewAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|n| n.trim().parse().ok());
        match number {
            Some(percent @ 10..=90) => Ok(Self(percent)),
            _ => Err(format!("{text:?} is not 10% to 90%")),
        }
    }
}

impl fmt::Display for RenewAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// When the issuing CA with this certification path is renewed, which it has had since `since`: a CA that
/// dates certificates far into the past would otherwise be asked all the time. The same path gives the
/// same time, whenever and wherever it is asked for.
pub(super) fn renewal(path: &[Certificate], since: UnixTime, at: RenewAt) -> Option<UnixTime> {
    let first = path.first()?;
    let end = path.iter().map(Certificate::not_after).min()?;
    let start = first.not_before().max(since);
    let [one, two, ..] = first.fingerprint();
    Some(between(start, end, at, u16::from_be_bytes([one, two])))
}

/// `spread` moves the time from the earliest (0) to the latest.
fn between(start: UnixTime, end: UnixTime, at: RenewAt, spread: u16) -> UnixTime {
    // In 65536ths of a percent.
    let widest = i128::from(JITTER_PERCENT) * 65_536;
    let jitter = i128::from(spread) * 2 * widest / 65_536 - widest;
    let part = i128::from(at.0) * 65_536 + jitter;
    let after = i128::from(end.since(start).as_secs()) * part / (100 * 65_536);
    start.plus(Duration::from_secs(u64::try_from(after).unwrap_or(0)))
}

/// When the next request may begin after those that ended without a certificate, newest last.
pub(super) fn after_refusals(requests: &[CaRequestRecord], first: Duration) -> Option<UnixTime> {
    let ended = requests.iter().rev().take_while(|each| {
        matches!(
            each.state,
            CaRequestState::Refused | CaRequestState::Cancelled
        )
    });
    let count = u32::try_from(ended.count()).unwrap_or(u32::MAX);
    let last = requests.last().filter(|_| count > 0)?.ended_at?;
    // Without jitter: it is computed at every look.
    let longest = LONGEST_AFTER_REFUSAL.max(first);
    Some(last.plus(backoff::doubled(count, first, longest)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_of_a_life_is_a_percentage() {
        assert_eq!("50%".parse(), Ok(RenewAt::HALF));
        assert_eq!("66 %".parse::<RenewAt>().unwrap().percent(), 66);
        for wrong in ["", "50", "0.5", "9%", "91%", "300%", "-1%", "half"] {
            let error = wrong.parse::<RenewAt>().unwrap_err();
            assert!(error.contains("is not 10% to 90%"), "{error}");
        }
    }

    /// Issuing CAs of 90 days that were all made in the same second, with whatever fingerprints.
    #[test]
    fn five_hundred_of_one_age_are_not_renewed_together() {
        let (start, end) = (UnixTime::from_secs(0), UnixTime::from_secs(90 * 86_400));
        let mut in_a_day = std::collections::BTreeMap::<i64, u32>::new();
        for number in 0..500_u32 {
            let [one, two, ..] = crate::digest::sha256(&number.to_be_bytes());
            let at = between(start, end, RenewAt::HALF, u16::from_be_bytes([one, two]));
            *in_a_day.entry(at.secs() / 86_400).or_default() += 1;
        }
        // Nine days are a tenth of the life; one of them begins and ends within a day.
        assert!((9..=10).contains(&in_a_day.len()), "{in_a_day:?}");
        let most = in_a_day.values().max().copied().unwrap();
        assert!(most <= 85, "{in_a_day:?}");
    }

    #[test]
    fn renewals_are_spread_around_their_part_of_a_life() {
        let (start, end) = (UnixTime::from_secs(1000), UnixTime::from_secs(101_000));
        let after = |spread| between(start, end, RenewAt::HALF, spread).secs() - 1000;
        assert_eq!(after(0), 45_000);
        assert_eq!(after(0x8000), 50_000);
        assert!((54_990..=55_000).contains(&after(u16::MAX)));
        // What has ended is due since then.
        assert_eq!(between(end, start, RenewAt::HALF, 7), end);
    }
}
