//! A token's queue, by turns. Its length is bounded by the slots that its jobs hold.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::fair_queue::{FairQueue, Share};

pub(super) struct JobQueue<T> {
    inner: Mutex<Inner<T>>,
    /// A job has come, or the queue is closed.
    changed: Condvar,
}

struct Inner<T> {
    jobs: FairQueue<T>,
    closed: bool,
    interrupts: u64,
}

/// What a worker does next.
pub(super) enum Next<T> {
    Job(T),
    /// All workers were interrupted: once for each.
    Interrupted,
    /// The queue is closed and empty.
    End,
}

impl<T> JobQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                jobs: FairQueue::default(),
                closed: false,
                interrupts: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Once the queue is closed, the job is dropped.
    pub(super) fn push(&self, share: &Share, job: T) {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            drop(job);
            return;
        }
        inner.jobs.push(share, job);
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits for a job. `seen` counts the interrupts that the worker has had.
    pub(super) fn next(&self, seen: &mut u64) -> Next<T> {
        let mut inner = self.lock();
        loop {
            if *seen != inner.interrupts {
                *seen = inner.interrupts;
                return Next::Interrupted;
            }
            if let Some(job) = inner.jobs.pop() {
                return Next::Job(job);
            }
            if inner.closed {
                return Next::End;
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Interrupts every worker before its next job.
    pub(super) fn interrupt(&self) {
        self.lock().interrupts += 1;
        self.changed.notify_all();
    }

    /// What is queued is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
