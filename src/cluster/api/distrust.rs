//! An API server that answers without bounds counts as down for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after the last such answer.
const TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Distrust(Mutex<Option<(Instant, String)>>);

impl Distrust {
    pub(super) fn set(&self, reason: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), reason));
    }

    pub(super) fn reason(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, reason) = last.as_ref()?;
        (at.elapsed() < TIME).then(|| reason.clone())
    }
}
