//! Log lines on their way to standard error, which may be slow or stand still: nobody who signs
//! waits for it, and many lines share a write.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that wait; what comes then is counted and not kept.
const ROOM: usize = 4 * 1024 * 1024;
/// How long lines are gathered after a write, so that a busy server makes a few hundred writes a
/// second and not one for each line. A lone line is written at once.
const GATHER: Duration = Duration::from_millis(5);

/// Where lines are left. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

/// Writes what waits and ends the writing thread when it is dropped; lines that come later are
/// written on the spot.
#[derive(Debug)]
#[must_use = "what waits is written when it is dropped"]
pub struct LogGuard {
    lines: Lines,
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    /// No thread writes (any more).
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

    fn leave(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.direct {
            drop(waiting);
            let _ = io::stderr().write_all(line);
        } else if waiting.bytes.len() + line.len() > ROOM {
            waiting.lost += 1;
        } else {
            let first = waiting.bytes.is_empty();
            waiting.bytes.extend_from_slice(line);
            drop(waiting);
            if first {
                self.0.news.notify_one();
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
                    .news
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines, &mut waiting.bytes);
            let (closing, lost) = (waiting.direct, std::mem::take(&mut waiting.lost));
            drop(waiting);
            // There is nobody to tell that standard error is gone.
            let _ = io::stderr().write_all(&lines);
            lines.clear();
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: standard error does not keep up");
            }
            if closing {
                return;
            }
            thread::sleep(GATHER);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.lines.waiting().direct = true;
        self.lines.0.news.notify_one();
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
        self.leave(line);
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
    fn what_there_is_no_room_for_is_counted_and_not_kept() {
        let mut lines = Lines::default();
        let line = vec![b'x'; 1024];
        for _ in 0..ROOM / line.len() + 3 {
            lines.write_all(&line).unwrap();
        }
        let waiting = lines.waiting();
        assert_eq!((waiting.bytes.len(), waiting.lost), (ROOM, 3));
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
