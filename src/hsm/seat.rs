//! The places of a token's threads: who is inside the module, and for how long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One thread's place.
#[derive(Debug)]
pub(super) struct Seat {
    /// When its call into the module counts as stuck, in ms since `started`; 0 outside a call.
    stuck_at: AtomicU64,
    /// When the call began, in µs since `started`; 0 outside a call.
    entered_at: AtomicU64,
    /// Another thread has taken over, or there are too many: it ends when its call returns.
    leaving: AtomicBool,
    ended: AtomicBool,
    started: Instant,
}

impl Seat {
    pub(super) fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self {
            stuck_at: AtomicU64::new(0),
            entered_at: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            started,
        })
    }

    /// To be held during a call that should last no longer than `limit`. It counts as stuck after twice
    /// that.
    pub(super) fn enter(&self, limit: Duration) -> Inside<'_> {
        let now = self.started.elapsed();
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.entered_at.store(micros.max(1), Ordering::Relaxed);
        let at = now + limit.saturating_mul(2);
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.stuck_at.store(at.max(1), Ordering::Relaxed);
        Inside(self)
    }

    pub(super) fn is_stuck(&self) -> bool {
        let at = self.stuck_at.load(Ordering::Relaxed);
        at != 0 && self.started.elapsed() > Duration::from_millis(at)
    }

    /// How long its call has lasted; nothing outside a call.
    fn inside_for(&self) -> Duration {
        match self.entered_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => self
                .started
                .elapsed()
                .saturating_sub(Duration::from_micros(at)),
        }
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// To be held by the thread.
    pub(super) fn occupy(self: Arc<Self>) -> Occupied {
        Occupied(self)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

pub(super) struct Inside<'a>(&'a Seat);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.stuck_at.store(0, Ordering::Relaxed);
        self.0.entered_at.store(0, Ordering::Relaxed);
    }
}

pub(super) struct Occupied(Arc<Seat>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

/// The workers' seats.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Arc<Seat>>>);

/// How many threads there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Those that take work.
    pub(super) working: usize,
    /// Of those: inside the module for too long.
    pub(super) stuck: usize,
    /// Replaced, and still inside the module.
    pub(super) abandoned: usize,
}

impl Seats {
    pub(super) fn add(&self, seat: Arc<Seat>) {
        self.lock().push(seat);
    }

    /// Forgets the seats of threads that have ended.
    pub(super) fn count(&self) -> Count {
        let mut seats = self.lock();
        seats.retain(|seat| !seat.has_ended());
        let mut count = Count::default();
        for seat in seats.iter() {
            match (seat.is_leaving(), seat.is_stuck()) {
                (false, stuck) => {
                    count.working += 1;
                    count.stuck += usize::from(stuck);
                }
                (true, true) => count.abandoned += 1,
                (true, false) => {}
            }
        }
        count
    }

    /// For how long every thread has been in its call at least; nothing when one is outside.
    pub(super) fn shortest_call(&self) -> Duration {
        let seats = self.lock();
        let working = seats.iter().filter(|seat| !seat.is_leaving());
        let shortest = working.map(|seat| seat.inside_for()).min();
        shortest.unwrap_or_default()
    }

    /// Asks up to `most` threads that are stuck to end when they can, and returns how many.
    pub(super) fn abandon(&self, most: usize) -> usize {
        self.ask_to_leave(most, Seat::is_stuck)
    }

    /// Asks so many threads to end after their work.
    pub(super) fn dismiss(&self, most: usize) -> usize {
        self.ask_to_leave(most, |_| true)
    }

    fn ask_to_leave(&self, most: usize, which: impl Fn(&Seat) -> bool) -> usize {
        let seats = self.lock();
        let chosen = seats
            .iter()
            .filter(|seat| !seat.is_leaving() && which(seat));
        chosen.take(most).map(|seat| seat.leave()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_stuck_after_twice_its_limit_and_counted_until_it_ends() {
        let long_ago = Instant::now() - Duration::from_secs(10);
        let seats = Seats::default();
        let (idle, quick, stuck) = (
            Seat::new(long_ago),
            Seat::new(long_ago),
            Seat::new(long_ago),
        );
        for seat in [&idle, &quick, &stuck] {
            seats.add(Arc::clone(seat));
        }
        let thread = Arc::clone(&stuck).occupy();
        let _quick = quick.enter(Duration::from_secs(60));
        let inside = stuck.enter(Duration::from_millis(1));
        let count = |working, stuck, abandoned| Count {
            working,
            stuck,
            abandoned,
        };
        while !stuck.is_stuck() {
            std::thread::yield_now();
        }
        assert_eq!(seats.count(), count(3, 1, 0));
        assert_eq!(seats.shortest_call(), Duration::ZERO, "one is idle");
        let now_inside = idle.enter(Duration::from_secs(60));
        while seats.shortest_call() < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        drop(now_inside);
        assert_eq!(seats.abandon(0), 0);
        assert_eq!(seats.abandon(9), 1);
        assert_eq!(seats.abandon(9), 0);
        assert!(stuck.is_leaving() && !quick.is_leaving());
        assert_eq!(seats.count(), count(2, 0, 1));
        // Its call returns, and it ends.
        drop(inside);
        assert_eq!(seats.count(), count(2, 0, 0));
        drop(thread);
        assert_eq!(seats.count(), count(2, 0, 0));
        assert_eq!(seats.dismiss(1), 1);
        assert_eq!(seats.count(), count(1, 0, 0));
    }
}
