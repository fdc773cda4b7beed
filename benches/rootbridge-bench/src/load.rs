//! The load: connections that make one call after another, for a second of warming up and then for
//! the measured window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::connection::{Connection, Target};
use crate::cpu_time;
use crate::requests::Request;
use crate::server::Server;

const WARM_UP: Duration = Duration::from_secs(1);
/// One answer in this many is kept and checked after the window; for the others the server's status
/// counts.
const SAMPLE_EVERY: usize = 16;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Connections of one thread.
const PER_THREAD: usize = 256;
const ERRORS_SHOWN: usize = 5;

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;

/// What was measured in one window.
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    /// Core time of everything else on the machine, the kernel's own work included.
    pub(crate) other_cpu: Duration,
    pub(crate) calls: Calls,
    /// Answers that were checked.
    pub(crate) checked: usize,
}

impl Window {
    pub(crate) fn certificates(&self) -> u32 {
        u32::try_from(self.calls.latencies_us.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.certificates()) / self.elapsed.as_secs_f64()
    }

    pub(crate) fn server_cpu_us(&self) -> f64 {
        self.per_certificate_us(self.server_cpu)
    }

    pub(crate) fn client_cpu_us(&self) -> f64 {
        self.per_certificate_us(self.client_cpu)
    }

    fn per_certificate_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / f64::from(self.certificates().max(1))
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let sorted = &self.calls.latencies_us;
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        f64::from(sorted.get(index).copied().unwrap_or_default()) / 1e3
    }
}

/// Errors and samples include those of the warm-up.
#[derive(Default)]
pub(crate) struct Calls {
    /// Of calls that ended within the window; sorted once the window has ended.
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) errors: u64,
    pub(crate) first_errors: Vec<String>,
    /// Number of the request, and the answer.
    pub(crate) samples: Vec<(usize, Bytes)>,
}

impl Calls {
    fn merge(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.errors += other.errors;
        self.first_errors.extend(other.first_errors);
        self.first_errors.truncate(ERRORS_SHOWN);
        self.samples.extend(other.samples);
    }

    pub(crate) fn add_error(&mut self, error: &Error) {
        self.errors += 1;
        if self.first_errors.len() < ERRORS_SHOWN {
            self.first_errors.push(format!("{error:#}"));
        }
    }
}

/// The requests and the position in them, shared by all connections and windows.
pub(crate) struct Queue {
    requests: Arc<Vec<Request>>,
    next: AtomicUsize,
    /// Where the current window must end.
    end: AtomicUsize,
    phase: AtomicU8,
    /// Whether each connection renews a certificate of its own.
    renew: bool,
}

impl Queue {
    pub(crate) fn new(requests: &Arc<Vec<Request>>, renew: bool) -> Arc<Self> {
        Arc::new(Self {
            renew,
            requests: Arc::clone(requests),
            next: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            phase: AtomicU8::new(ENDED),
        })
    }

    /// Numbers go on without end; requests are used again after the last one.
    pub(crate) fn request(&self, number: usize) -> Option<&Request> {
        self.requests.get(number.checked_rem(self.requests.len())?)
    }

    /// Continues after the last window's requests. No request is used twice in one window.
    fn start_window(&self) {
        let next = self.next.load(Ordering::SeqCst);
        self.end.store(next + self.requests.len(), Ordering::SeqCst);
        self.phase.store(WARMING_UP, Ordering::SeqCst);
    }

    fn is_exhausted(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.end.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<(usize, &Request)> {
        if self.phase.load(Ordering::Relaxed) == ENDED || self.is_exhausted() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, self.request(number)?))
    }
}

/// Keeps `connections` busy for `span`, or until the requests are exhausted.
pub(crate) async fn measure(
    server: &Server,
    target: &Target,
    queue: &Arc<Queue>,
    connections: usize,
    span: Duration,
) -> Result<Window> {
    queue.start_window();
    let threads = connections.div_ceil(PER_THREAD);
    let (connected, mut ready) = mpsc::channel(threads);
    let running: Vec<_> = (0..threads)
        .map(|first| {
            let count = (first..connections).step_by(threads).count();
            let (queue, target) = (Arc::clone(queue), target.clone());
            let connected = connected.clone();
            thread::spawn(move || run_connections(&queue, &target, count, &connected))
        })
        .collect();
    drop(connected);
    for _ in 0..threads {
        ready.recv().await.context("the load did not start")??;
    }

    sleep(WARM_UP).await;
    let times = || anyhow::Ok((server.cpu_time()?, cpu_time::process(), cpu_time::machine()));
    let (start, before) = (Instant::now(), times()?);
    queue.phase.store(MEASURING, Ordering::SeqCst);
    while start.elapsed() < span && !queue.is_exhausted() {
        sleep(span.saturating_sub(start.elapsed()).min(POLL_INTERVAL)).await;
    }
    queue.phase.store(ENDED, Ordering::SeqCst);
    let (elapsed, after) = (start.elapsed(), times()?);

    let mut calls = Calls::default();
    for thread in running {
        calls.merge(
            thread
                .join()
                .map_err(|_| anyhow!("a load thread panicked"))?,
        );
    }
    calls.latencies_us.sort_unstable();
    let server_cpu = after.0.saturating_sub(before.0);
    let client_cpu = after.1.saturating_sub(before.1);
    let machine_cpu = after.2.saturating_sub(before.2);
    Ok(Window {
        elapsed,
        server_cpu,
        client_cpu,
        other_cpu: machine_cpu.saturating_sub(server_cpu + client_cpu),
        calls,
        checked: 0,
    })
}

/// One thread's connections. All are open before the first call.
fn run_connections(
    queue: &Arc<Queue>,
    target: &Target,
    count: usize,
    connected: &mpsc::Sender<Result<()>>,
) -> Calls {
    let mut all = Calls::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = connected.blocking_send(Err(error.into()));
            return all;
        }
    };
    runtime.block_on(async {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            match Caller::connect(queue, target).await {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    let _ = connected.send(Err(error)).await;
                    return;
                }
            }
        }
        let _ = connected.send(Ok(())).await;
        let running: Vec<_> = connections
            .into_iter()
            .map(|connection| {
                tokio::spawn(call_until_end(
                    Arc::clone(queue),
                    target.clone(),
                    connection,
                ))
            })
            .collect();
        for task in running {
            match task.await {
                Ok(calls) => all.merge(calls),
                Err(error) => all.add_error(&error.into()),
            }
        }
    });
    all
}

/// A connection. With a certificate it has one request, for the name and key in it.
struct Caller {
    connection: Connection,
    own: Option<usize>,
}

impl Caller {
    async fn connect(queue: &Queue, target: &Target) -> Result<Self> {
        let mut connection = target.connect().await?;
        if !queue.renew {
            return Ok(Self {
                connection,
                own: None,
            });
        }
        let (number, request) = queue.take().context("no request is left")?;
        let answer = connection.call(request, true).await?;
        Ok(Self {
            connection: target.connect_as(request, &answer).await?,
            own: Some(number),
        })
    }
}

async fn call_until_end(queue: Arc<Queue>, target: Target, caller: Caller) -> Calls {
    let mut calls = Calls::default();
    let Caller {
        mut connection,
        mut own,
    } = caller;
    while let Some((taken, next)) = queue.take() {
        let number = own.unwrap_or(taken);
        let request = queue.request(number).unwrap_or(next);
        let is_sample = taken.is_multiple_of(SAMPLE_EVERY);
        let start = Instant::now();
        match connection.call(request, is_sample).await {
            Ok(answer) => {
                if queue.phase.load(Ordering::Relaxed) == MEASURING {
                    let latency = u32::try_from(start.elapsed().as_micros());
                    calls.latencies_us.push(latency.unwrap_or(u32::MAX));
                }
                if is_sample {
                    calls.samples.push((number, answer));
                }
            }
            Err(error) => {
                calls.add_error(&error);
                // A failed connection does not recover.
                match Caller::connect(&queue, &target).await {
                    Ok(new) => Caller { connection, own } = new,
                    Err(error) => {
                        calls.add_error(&error);
                        break;
                    }
                }
            }
        }
    }
    calls
}
