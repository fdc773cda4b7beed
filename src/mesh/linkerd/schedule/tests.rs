//! Ten thousand proxies in simulated time, with the rules of Linkerd's own proxy as the client.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rootbridge_test_support::random::SplitMix64;

use super::*;
use crate::clock::{Clock, FixedClock};
use crate::hsm::DEFAULT_QUEUE as QUEUE;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const PROXIES: usize = 10_000;
/// Linkerd's lifetime and its allowance for clocks.
const LIFETIME: Duration = Duration::from_secs(DAY);
const SKEW: Duration = Duration::from_secs(20);
const BEGIN: i64 = 1_790_000_000;

#[derive(Clone, Copy)]
struct Held {
    not_after: UnixTime,
    valid_until: UnixTime,
}

/// One call for a certificate: when, and what was left of the one at hand.
struct Call {
    at: u64,
    left: Option<Duration>,
    answered: bool,
}

/// The proxy's rule: 70 % of what is left, from 10 seconds to a day.
fn sleep(held: Option<Held>, now: UnixTime) -> Duration {
    let Some(held) = held else {
        return Duration::from_secs(10);
    };
    let left = held.valid_until.since(now) * 7 / 10;
    left.clamp(Duration::from_secs(10), Duration::from_secs(DAY))
}

/// Shows `see` every call of `PROXIES` that start within 5 minutes, in order, until `end`; those in
/// `outage` fail.
fn run(schedule: Schedule, end: u64, outage: &Range<u64>, mut see: impl FnMut(Call)) {
    let clock = FixedClock::new(UnixTime::from_secs(BEGIN));
    let mut random = SplitMix64(7);
    let mut held: Vec<Option<Held>> = vec![None; PROXIES];
    let mut due = BinaryHeap::new();
    for proxy in 0..PROXIES {
        due.push(Reverse((random.next() % 300, proxy)));
    }
    while let Some(Reverse((at, proxy))) = due.pop()
        && at < end
    {
        clock.set(UnixTime::from_secs(BEGIN).plus(Duration::from_secs(at)));
        let now = clock.now();
        let answered = !outage.contains(&at);
        see(Call {
            at,
            left: held[proxy].map(|held| held.not_after.since(now)),
            answered,
        });
        if answered {
            let not_after = now.plus(LIFETIME + SKEW);
            let valid_until = schedule.valid_until(now, not_after, random.next());
            held[proxy] = Some(Held {
                not_after,
                valid_until,
            });
        }
        due.push(Reverse((at + sleep(held[proxy], now).as_secs(), proxy)));
    }
}

/// Counts the calls of each hour of the tenth day.
#[derive(Default)]
struct TenthDay([usize; 24]);

impl TenthDay {
    fn see(&mut self, call: &Call) {
        if let Some(into) = call.at.checked_sub(9 * DAY) {
            self.0[usize::try_from(into / HOUR).unwrap()] += 1;
        }
    }
}

#[test]
fn refreshes_spread_and_stay_spread() {
    let schedule = Schedule::of_lifetime(LIFETIME);
    let mut firsts = Vec::new();
    let mut day = TenthDay::default();
    let mut least = LIFETIME;
    run(schedule, 10 * DAY, &(0..0), |call| {
        day.see(&call);
        if let Some(left) = call.left {
            least = least.min(left);
            if firsts.len() < PROXIES {
                firsts.push(call.at);
            }
        }
    });
    let spread = firsts[PROXIES - 1] - firsts[0];
    assert!(spread >= 4 * HOUR, "the first refreshes span {spread} s");
    let mean = day.0.iter().sum::<usize>() / 24;
    for count in day.0 {
        assert!(
            count.abs_diff(mean) * 5 <= mean,
            "an hour of the tenth day has {count}, the mean is {mean}: {:?}",
            day.0
        );
    }
    assert!(
        least >= schedule.outage_margin,
        "a certificate was refreshed {least:?} before its end"
    );
}

#[test]
fn without_the_schedule_refreshes_stay_synchronized() {
    // What proxies do that are told notAfter itself: the test above can fail.
    let told = Schedule {
        outage_margin: Duration::ZERO,
        jitter: Duration::ZERO,
    };
    let mut day = TenthDay::default();
    run(told, 10 * DAY, &(0..0), |call| day.see(&call));
    assert!(day.0.contains(&0), "{:?}", day.0);
}

#[test]
fn an_outage_of_half_an_hour_is_no_herd() {
    /// Signatures a second of a slow HSM.
    const RATE: usize = 50;
    let schedule = Schedule::of_lifetime(LIFETIME);
    let outage = 5 * DAY..5 * DAY + HOUR / 2;
    let (mut failed, mut least) = (0, LIFETIME);
    let (mut waiting, mut most, mut second) = (0_usize, 0, outage.end);
    run(schedule, 7 * DAY, &outage, |call| {
        failed += usize::from(!call.answered);
        least = least.min(call.left.unwrap_or(LIFETIME));
        if call.at >= outage.end {
            // What was signed meanwhile.
            let passed = usize::try_from(call.at - second).unwrap();
            waiting = waiting.saturating_sub(passed * RATE) + 1;
            second = call.at;
            most = most.max(waiting);
        }
    });
    assert!(failed > 100, "only {failed} calls fell into the outage");
    // Which is more than that no identity expired.
    assert!(least >= schedule.outage_margin, "one had {least:?} left");
    assert!(
        most < QUEUE,
        "{most} waited at once; the queue takes {QUEUE}"
    );
}

#[test]
fn a_life_cut_short_is_divided_alike() {
    let schedule = Schedule::of_lifetime(LIFETIME);
    let now = UnixTime::from_secs(BEGIN);
    for left in [40, 600, HOUR, 11 * HOUR, DAY] {
        let not_after = now.plus(Duration::from_secs(left));
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            let until = schedule.valid_until(now, not_after, draw);
            assert!(until >= now.plus(Duration::from_secs(left / 4)), "{left}");
            assert!(until < not_after, "{left} {draw}");
        }
    }
    let whole = now.plus(LIFETIME);
    assert_eq!(
        schedule.valid_until(now, whole, 0),
        whole.minus(LIFETIME / 6)
    );
    let last = schedule.valid_until(now, whole, u64::MAX);
    let earliest = whole.minus(LIFETIME / 2);
    assert!(last >= earliest && last <= earliest.plus(Duration::from_secs(1)));
}

#[test]
fn a_schedule_must_leave_something() {
    let hours = |n: u64| Duration::from_secs(n * HOUR);
    let schedule = |outage_margin, jitter| Schedule {
        outage_margin,
        jitter,
    };
    assert!(Schedule::of_lifetime(LIFETIME).fits(LIFETIME));
    assert!(schedule(hours(10), hours(8)).fits(LIFETIME));
    assert!(!schedule(hours(10), hours(9)).fits(LIFETIME));
    let endless = schedule(Duration::MAX, Duration::MAX);
    assert!(!endless.fits(LIFETIME));
    let now = UnixTime::from_secs(BEGIN);
    assert!(endless.valid_until(now, now.plus(LIFETIME), u64::MAX) > now);
}
