//! A job's place in the queue: a worker takes it, or its caller gives it up, whichever is first.

use std::sync::{Arc, Mutex, PoisonError};

use super::slots::QueueSlot;

type Held = Arc<Mutex<Option<QueueSlot>>>;

/// The caller's end. Dropped before a worker has taken the job, it frees the slot at once, and the job is
/// never done.
#[derive(Debug)]
pub(super) struct Place(Held);

/// The worker's end.
#[derive(Debug)]
pub(super) struct Taker(Held);

impl Place {
    pub(super) fn new(queue_slot: QueueSlot) -> Self {
        Self(Arc::new(Mutex::new(Some(queue_slot))))
    }

    pub(super) fn clone_for_worker(&self) -> Taker {
        Taker(Arc::clone(&self.0))
    }

    /// Whether the job is not done: no worker had taken it.
    pub(super) fn give_up(&self) -> bool {
        take(&self.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        take(&self.0);
    }
}

impl Taker {
    /// Whether the job is to be done. Its slot is free for others.
    pub(super) fn take(&self) -> bool {
        take(&self.0)
    }
}

fn take(held: &Held) -> bool {
    let slot = held.lock().unwrap_or_else(PoisonError::into_inner).take();
    slot.is_some()
}
