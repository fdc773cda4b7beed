//! A buffer between log lines and standard error, which may be slow or blocked: signing never waits
//! for it, and many lines share a write.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that wait; further lines are dropped and counted.
const CAPACITY: usize = 4 * 1024 * 1024;
/// The pause after a write, so that a busy server makes a few hundred writes a second rather than
/// one for each line. A single line is written at once.
const PAUSE: Duration = Duration::from_millis(5);

/// Clones share the buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

/// When dropped, writes what waits and ends the writing thread; later lines are written directly.
#[derive(Debug)]
#[must_use = "what waits is written when it is dropped"]
pub struct LogGuard {
    lines: Lines,
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    /// No thread writes; each line goes to standard error directly.
    direct: bool,
}

impl Lines {
    /// Starts the thread that writes.
    pub(super) fn start() -> (Self, LogGuard) {
        let lines = Self::default();
        let theirs = lines.clone();
        let writing = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || theirs.write_until_closed())
            .ok();
        lines.waiting().direct = writing.is_none();
        let guard = LogGuard {
            lines: lines.clone(),
            writing,
        };
        (lines, guard)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.direct {
            drop(waiting);
            let _ = io::stderr().write_all(line);
        } else if waiting.bytes.len() + line.len() > CAPACITY {
            waiting.lost += 1;
        } else {
            let first = waiting.bytes.is_empty();
            waiting.bytes.extend_from_slice(line);
            drop(waiting);
            if first {
                self.0.changed.notify_one();
            }
        }
    }

    fn write_until_closed(&self) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.waiting();
            while waiting.bytes.is_empty() && !waiting.direct {
                waiting = self
                    .0
                    .changed
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines, &mut waiting.bytes);
            let (closing, lost) = (waiting.direct, std::mem::take(&mut waiting.lost));
            drop(waiting);
            // If standard error is closed, there is nowhere to report it.
            let _ = io::stderr().write_all(&lines);
            lines.clear();
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: standard error does not keep up");
            }
            if closing {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.lines.waiting().direct = true;
        self.lines.0.changed.notify_one();
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// tracing-subscriber writes a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_beyond_the_capacity_are_counted_and_dropped() {
        let mut lines = Lines::default();
        let line = vec![b'x'; 1024];
        for _ in 0..CAPACITY / line.len() + 3 {
            lines.write_all(&line).unwrap();
        }
        let waiting = lines.waiting();
        assert_eq!((waiting.bytes.len(), waiting.lost), (CAPACITY, 3));
    }

    #[test]
    fn closing_waits_for_the_last_line() {
        let (mut lines, guard) = Lines::start();
        lines.write_all(b"").unwrap();
        lines
            .write_all(b"{\"message\":\"the last line\"}\n")
            .unwrap();
        drop(guard);
        let waiting = lines.waiting();
        assert!(waiting.direct && waiting.bytes.is_empty());
    }
}
