//! The load: connections that each make one call after another, a second of warming up, and then
//! the window in which everything is counted.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{Connection, Target};
use super::place::failed;
use super::requests::Request;
use super::server::{Server, ticks};
use crate::cli::failure::Failure;
use crate::clock::process_cpu_time;

const WARM_UP: Duration = Duration::from_secs(1);
/// One answer in so many is kept and looked through afterwards; of all others it is known that
/// the server said OK.
const KEPT: usize = 16;
/// How often it is looked whether the calls have run out.
const LOOK: Duration = Duration::from_millis(10);
/// Connections that one thread drives, beside the server on the same cores.
const PER_THREAD: usize = 256;
const SAID: usize = 5;

const MEASURING: u8 = 1;
const ENDED: u8 = 2;

/// What the window came to.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) took: Duration,
    pub(super) server_cpu: Duration,
    pub(super) client_cpu: Duration,
    /// What everything else on the machine took of its cores, the kernel's own work included.
    pub(super) other_cpu: Duration,
    pub(super) outcome: Tally,
    /// Answers that were looked through.
    pub(super) checked: usize,
}

impl Window {
    pub(super) fn certificates(&self) -> u32 {
        u32::try_from(self.outcome.latencies.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn per_second(&self) -> f64 {
        f64::from(self.certificates()) / self.took.as_secs_f64()
    }

    pub(super) fn server_cpu_us(&self) -> f64 {
        micros(self.server_cpu, self.certificates())
    }

    pub(super) fn client_cpu_us(&self) -> f64 {
        micros(self.client_cpu, self.certificates())
    }

    /// The latency that `percent` of the calls did not exceed.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let all = &self.outcome.latencies;
        let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        f64::from(all.get(at).copied().unwrap_or_default()) / 1e3
    }
}

fn micros(span: Duration, of: u32) -> f64 {
    span.as_secs_f64() * 1e6 / f64::from(of.max(1))
}

/// What calls came to, warming up and after the window included where it is not said otherwise.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of calls that ended within the window, in microseconds.
    pub(super) latencies: Vec<u32>,
    pub(super) errors: u64,
    /// The first few of them.
    pub(super) said: Vec<String>,
    /// Number of the call, and its answer.
    pub(super) kept: Vec<(usize, Bytes)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        self.said.extend(other.said);
        self.said.truncate(SAID);
        self.kept.extend(other.kept);
    }

    pub(super) fn fail(&mut self, why: String) {
        self.errors += 1;
        if self.said.len() < SAID {
            self.said.push(why);
        }
    }
}

/// The calls, and how far into them the load has come; what the connections share.
#[derive(Debug)]
pub(super) struct Course {
    requests: Arc<Vec<Request>>,
    next: AtomicUsize,
    /// Where the current window may go to.
    end: AtomicUsize,
    phase: AtomicU8,
}

impl Course {
    pub(super) fn new(requests: &Arc<Vec<Request>>) -> Arc<Self> {
        Arc::new(Self {
            requests: Arc::clone(requests),
            next: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            phase: AtomicU8::new(0),
        })
    }

    /// The call of that number; there are as many numbers as it takes.
    pub(super) fn request(&self, number: usize) -> Option<&Request> {
        self.requests.get(number.checked_rem(self.requests.len())?)
    }

    /// Goes on where the last window ended. No call comes twice in a window; in a later one it
    /// may, when all have had their turn.
    fn begin(&self) {
        let next = self.next.load(Ordering::SeqCst);
        self.end.store(next + self.requests.len(), Ordering::SeqCst);
        self.phase.store(0, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.end.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<(usize, &Request)> {
        if self.phase.load(Ordering::Relaxed) == ENDED || self.is_over() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, self.request(number)?))
    }
}

/// Keeps `connections` busy for `span`, or until the calls have run out.
pub(super) fn measure(
    server: &Server<'_>,
    target: &Target,
    course: &Arc<Course>,
    connections: usize,
    span: Duration,
) -> Result<Window, Failure> {
    course.begin();
    let threads = connections.div_ceil(PER_THREAD);
    let (connected, ready) = mpsc::channel();
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let share = (thread..connections).step_by(threads).count();
            let (course, target, connected) =
                (Arc::clone(course), target.clone(), connected.clone());
            thread::spawn(move || drive(&course, &target, share, &connected))
        })
        .collect();
    drop(connected);
    for _ in 0..threads {
        ready
            .recv()
            .map_err(|_| failed("the load could not begin"))?
            .map_err(failed)?;
    }

    thread::sleep(WARM_UP);
    let busy = machine_cpu();
    let before = (Instant::now(), server.cpu()?, process_cpu_time());
    course.phase.store(MEASURING, Ordering::SeqCst);
    while before.0.elapsed() < span && !course.is_over() {
        let left = span.saturating_sub(before.0.elapsed());
        thread::sleep(left.min(LOOK));
    }
    course.phase.store(ENDED, Ordering::SeqCst);
    let after = (Instant::now(), server.cpu()?, process_cpu_time());
    let busy = machine_cpu().saturating_sub(busy);
    let server_cpu = after.1.saturating_sub(before.1);
    let client_cpu = after.2.saturating_sub(before.2);

    let mut outcome = Tally::default();
    for thread in running {
        outcome.add(
            thread
                .join()
                .map_err(|_| failed("a thread of the load ended early"))?,
        );
    }
    outcome.latencies.sort_unstable();
    Ok(Window {
        took: after.0 - before.0,
        server_cpu,
        client_cpu,
        other_cpu: busy.saturating_sub(server_cpu + client_cpu),
        outcome,
        checked: 0,
    })
}

/// Time that the machine's cores were not idle since it started.
fn machine_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default().split_whitespace();
    // user, nice, system, idle, iowait, irq, softirq, steal; the guests' are in the first two.
    let busy = all.skip(1).take(8).enumerate().filter_map(|(at, spent)| {
        let idle = matches!(at, 3 | 4);
        spent.parse::<u64>().ok().filter(|_| !idle)
    });
    ticks(busy.sum())
}

/// One thread's connections, all opened before the first call.
fn drive(
    course: &Arc<Course>,
    target: &Target,
    share: usize,
    connected: &mpsc::Sender<Result<(), String>>,
) -> Tally {
    let mut all = Tally::default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = connected.send(Err(error.to_string()));
            return all;
        }
    };
    runtime.block_on(async {
        let mut connections = Vec::with_capacity(share);
        for _ in 0..share {
            match target.connect().await {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    let _ = connected.send(Err(error));
                    return;
                }
            }
        }
        let _ = connected.send(Ok(()));
        let running: Vec<_> = connections
            .into_iter()
            .map(|connection| {
                tokio::spawn(keep_calling(Arc::clone(course), target.clone(), connection))
            })
            .collect();
        for task in running {
            match task.await {
                Ok(tally) => all.add(tally),
                Err(error) => all.fail(error.to_string()),
            }
        }
    });
    all
}

async fn keep_calling(course: Arc<Course>, target: Target, mut connection: Connection) -> Tally {
    let mut tally = Tally::default();
    while let Some((number, request)) = course.take() {
        let kept = number.is_multiple_of(KEPT);
        let begun = Instant::now();
        match connection.call(request, kept).await {
            Ok(message) => {
                if course.phase.load(Ordering::Relaxed) == MEASURING {
                    let took = begun.elapsed().as_micros();
                    tally
                        .latencies
                        .push(u32::try_from(took).unwrap_or(u32::MAX));
                }
                if kept {
                    tally.kept.push((number, message));
                }
            }
            Err(error) => {
                tally.fail(error);
                // What is wrong with a connection stays so.
                match target.connect().await {
                    Ok(fresh) => connection = fresh,
                    Err(error) => {
                        tally.fail(error);
                        break;
                    }
                }
            }
        }
    }
    tally
}
