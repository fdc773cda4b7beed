//! A token's workers: as many as the token bears, and another one for each that hangs in the module.
//!
//! A call into a module cannot be interrupted. A worker that is inside for too long is left alone, with its
//! session, and replaced, up to a bound. Past it nothing can sign: the token is not ready, until calls
//! return. Other tokens, and all that needs no token, go on.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::error::HsmError;
use super::login_client::LoginClient;
use super::queue::JobQueue;
use super::seat::Seat;
use super::token_inner::TokenInner;
use super::worker::{Job, Worker};

/// How often the threads are counted, at most and at least.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);

pub(super) struct Supervisor {
    inner: Arc<TokenInner>,
    queue: Arc<JobQueue<Job>>,
    login: LoginClient,
    /// Each thread has a copy.
    alive: Sender<Infallible>,
    workers: Vec<JoinHandle<()>>,
    started: usize,
}

impl Supervisor {
    /// With its first worker, so that a failure to start threads is known at once.
    pub(super) fn new(
        inner: &Arc<TokenInner>,
        queue: &Arc<JobQueue<Job>>,
        login: &LoginClient,
        alive: Sender<Infallible>,
    ) -> Result<Self, HsmError> {
        let mut supervisor = Self {
            inner: Arc::clone(inner),
            queue: Arc::clone(queue),
            login: login.clone(),
            alive,
            workers: Vec::new(),
            started: 0,
        };
        supervisor.start_worker().inspect_err(|_| queue.close())?;
        Ok(supervisor)
    }

    /// Runs until the other end of `stop` is dropped, and returns the workers, some of which may hang.
    pub(super) fn run(mut self, stop: &Receiver<Infallible>) -> Vec<JoinHandle<()>> {
        let usual = (self.inner.deadline / 4).clamp(SHORTEST, LONGEST);
        let mut next = SHORTEST;
        while stop.recv_timeout(next) == Err(RecvTimeoutError::Timeout) {
            self.supervise();
            // What the token bears is known after the first login.
            next = match self.inner.login_generation() {
                0 => SHORTEST,
                _ => usual,
            };
        }
        self.workers
    }

    fn supervise(&mut self) {
        let inner = Arc::clone(&self.inner);
        self.workers.retain(|worker| !worker.is_finished());
        let (wanted, before) = (inner.wanted_workers(), inner.seats.count());
        if before.stuck > 0 {
            let allowed = inner.most_abandoned().saturating_sub(before.abandoned);
            let abandoned = inner.seats.abandon(allowed);
            if abandoned > 0 {
                tracing::warn!(
                    token = inner.name,
                    threads = before.abandoned + abandoned,
                    most = inner.most_abandoned(),
                    "a worker hangs in the PKCS#11 module and is replaced"
                );
            }
        }
        let count = inner.seats.count();
        if count.working > wanted && inner.seats.dismiss(count.working - wanted) > 0 {
            self.queue.interrupt();
        }
        for _ in count.working..wanted {
            if let Err(error) = self.start_worker() {
                tracing::error!(token = inner.name, %error, "a worker is not replaced");
                break;
            }
        }
        let count = inner.seats.count();
        // It alone opens the way to a token that is not ready, and it is not replaced: its login may have
        // reached the token.
        let login_hangs = inner.login_seat.is_stuck();
        inner.set_hanging(count.abandoned + count.stuck + usize::from(login_hangs));
        let none_works = count.stuck > 0 && count.stuck == count.working;
        if none_works || (login_hangs && !inner.is_ready()) {
            inner.set_stuck();
        } else if inner.clear_stuck() {
            // The token is ready again once it has passed a self-test.
            self.login
                .report_failure("threads hung in the module".to_owned());
        }
    }

    fn start_worker(&mut self) -> Result<(), HsmError> {
        let (inner, seat) = (&self.inner, Seat::new(self.inner.started()));
        let name = format!("hsm-{}-{}", inner.name, self.started);
        let worker = Worker::new(Arc::clone(inner), self.login.clone(), Arc::clone(&seat));
        let (jobs, alive) = (Arc::clone(&self.queue), self.alive.clone());
        let occupied = Arc::clone(&seat);
        let body = move || {
            let occupied = occupied.occupy();
            worker.run(&jobs);
            drop((occupied, alive));
        };
        let spawned = thread::Builder::new().name(name).spawn(body);
        self.workers.push(spawned.map_err(|error| HsmError::Thread {
            token: inner.name.clone(),
            reason: error.to_string(),
        })?);
        inner.seats.add(seat);
        self.started += 1;
        Ok(())
    }
}
