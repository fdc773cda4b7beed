//! A token's workers: as many as the token bears, and another one for each that hangs in the module.
//!
//! A call into a module cannot be interrupted. A worker that is inside for too long is left alone, with its
//! session, and replaced, up to a bound. Past it nothing can sign: the token is not ready, until calls
//! return. Other tokens, and all that needs no token, go on. A login that hangs is replaced in the same way; what was
//! sent to the token is known to the next thread.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::error::HsmError;
use super::login::LoginThread;
use super::login_client::{LoginClient, LoginRequest};
use super::queue::JobQueue;
use super::seat::Seat;
use super::token_inner::TokenInner;
use super::worker::{Job, Worker};

/// How often the threads are counted, at most and at least.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);
/// How many login threads may hang beside the one that works.
const MOST_ABANDONED_LOGINS: usize = 2;

pub(super) struct Supervisor {
    inner: Arc<TokenInner>,
    queue: Arc<JobQueue<Job>>,
    login: LoginClient,
    logins: Receiver<LoginRequest>,
    /// Each thread has a copy.
    alive: Sender<Infallible>,
    threads: Vec<JoinHandle<()>>,
    started: usize,
}

impl Supervisor {
    /// With its login and its first worker, so that a failure to start threads is known at once.
    pub(super) fn new(
        inner: &Arc<TokenInner>,
        queue: &Arc<JobQueue<Job>>,
        (login, logins): (LoginClient, Receiver<LoginRequest>),
        alive: Sender<Infallible>,
    ) -> Result<Self, HsmError> {
        let mut supervisor = Self {
            inner: Arc::clone(inner),
            queue: Arc::clone(queue),
            login,
            logins,
            alive,
            threads: Vec::new(),
            started: 0,
        };
        supervisor.start_login()?;
        supervisor.start_worker().inspect_err(|_| queue.close())?;
        Ok(supervisor)
    }

    /// Runs until the other end of `stop` is dropped, and returns the threads, some of which may hang.
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
        self.threads
    }

    fn supervise(&mut self) {
        let inner = Arc::clone(&self.inner);
        self.threads.retain(|thread| !thread.is_finished());
        self.replace_login();
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
        let logins = inner.login_seats.count();
        inner.set_hanging(count.abandoned + count.stuck + logins.abandoned + logins.stuck);
        let none_works = count.stuck > 0 && count.stuck == count.working;
        if none_works || (logins.stuck > 0 && !inner.is_ready()) {
            inner.set_stuck();
        } else if inner.clear_stuck() {
            // The token is ready again once it has passed a self-test.
            self.login
                .report_failure("threads hung in the module".to_owned());
        }
    }

    fn replace_login(&mut self) {
        let inner = Arc::clone(&self.inner);
        let before = inner.login_seats.count();
        let allowed = MOST_ABANDONED_LOGINS.saturating_sub(before.abandoned);
        if before.stuck == 0 || inner.login_seats.abandon(allowed) == 0 {
            return;
        }
        tracing::warn!(
            token = inner.name,
            threads = before.abandoned + 1,
            most = MOST_ABANDONED_LOGINS,
            "the login hangs in the PKCS#11 module and is replaced"
        );
        if let Err(error) = self.start_login() {
            tracing::error!(token = inner.name, %error, "the login is not replaced");
        }
    }

    fn start_login(&mut self) -> Result<(), HsmError> {
        let seat = Seat::new(self.inner.started());
        let login = LoginThread::new(&self.inner, self.logins.clone(), Arc::clone(&seat));
        let name = format!("hsm-{}", self.inner.name);
        self.spawn(name, Arc::clone(&seat), || login.run())?;
        self.inner.login_seats.add(seat);
        Ok(())
    }

    fn start_worker(&mut self) -> Result<(), HsmError> {
        let seat = Seat::new(self.inner.started());
        let name = format!("hsm-{}-{}", self.inner.name, self.started);
        let inner = Arc::clone(&self.inner);
        let worker = Worker::new(inner, self.login.clone(), Arc::clone(&seat));
        let jobs = Arc::clone(&self.queue);
        self.spawn(name, Arc::clone(&seat), move || worker.run(&jobs))?;
        self.inner.seats.add(seat);
        self.started += 1;
        Ok(())
    }

    fn spawn(
        &mut self,
        name: String,
        seat: Arc<Seat>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), HsmError> {
        let alive = self.alive.clone();
        let body = move || {
            let occupied = seat.occupy();
            run();
            drop((occupied, alive));
        };
        let spawned = thread::Builder::new().name(name).spawn(body);
        self.threads.push(spawned.map_err(|error| HsmError::Thread {
            token: self.inner.name.clone(),
            reason: error.to_string(),
        })?);
        Ok(())
    }
}
