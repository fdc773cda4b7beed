//! A token's threads, and the way to them: places in the queue, requests, answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use cryptoki::session::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{HsmError, SignError};
use super::keeper::Keeper;
use super::keys::SigningKey;
use super::mechanism;
use super::shared::{Shared, TokenState};
use super::signer::{Job, Signing, Work, Worker};
use super::token::Token;

/// How long closing waits for threads that are inside the module.
const CLOSING: Duration = Duration::from_secs(2);

impl Token {
    /// Starts the threads. It does not fail when the token is missing or the PIN wrong.
    pub(super) fn start(shared: Shared, workers: usize) -> Result<Arc<Self>, HsmError> {
        let shared = Arc::new(shared);
        // Unbounded, because nobody sends without a place, and places are bounded.
        let (jobs, todo) = unbounded();
        let (keeper, requests) = unbounded();
        let (alive, threads) = bounded(0);
        let places = Arc::new(Semaphore::new(shared.queue));
        let spawn = |name: String, alive: Sender<Infallible>, work: Box<dyn FnOnce() + Send>| {
            let body = move || {
                work();
                drop(alive);
            };
            thread::Builder::new()
                .name(name)
                .spawn(body)
                .map_err(|error| HsmError::Thread {
                    token: shared.name.clone(),
                    reason: error.to_string(),
                })
        };
        let own = Keeper::new(Arc::clone(&shared));
        let mut handles = Vec::with_capacity(workers + 1);
        handles.push(spawn(
            format!("hsm-{}", shared.name),
            alive.clone(),
            Box::new(move || own.run(&requests)),
        )?);
        for number in 0..workers {
            let worker = Worker::new(Arc::clone(&shared), keeper.clone(), number);
            let todo = todo.clone();
            let name = format!("hsm-{}-{number}", shared.name);
            let work = Box::new(move || worker.run(&todo));
            handles.push(spawn(name, alive.clone(), work)?);
        }
        Ok(Arc::new(Self {
            shared,
            jobs: Some(jobs),
            keeper: Some(keeper),
            places,
            threads,
            handles,
        }))
    }

    /// Has a worker make a call, and waits up to `limit` for its answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        again: bool,
        call: impl Fn(&Shared, &Session) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        self.must_be_ready()?;
        let place = self.place().map_err(|_| self.busy())?;
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + limit;
        let work = Work::Call(Box::new(move |worker| {
            // Too late, or nobody waits: the caller was told that nothing came of it.
            if !reply.is_closed() {
                let _ = reply.send(worker.call(deadline, again, call));
            }
        }));
        self.send(Job { work, place });
        let timeout = || HsmError::Timeout {
            token: self.shared.name.clone(),
            what,
            after: limit,
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(timeout()),
        }
    }

    pub(super) async fn enqueue(
        &self,
        key: &Arc<SigningKey>,
        message: &[u8],
        deadline: Instant,
        test: bool,
        place: OwnedSemaphorePermit,
    ) -> Result<Vec<u8>, SignError> {
        let input = mechanism::input(key.algorithm, message)
            .map_err(|fault| SignError::Refused(fault.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let job = Signing {
            key: Arc::clone(key),
            input,
            deadline,
            test,
            reply,
        };
        self.send(Job {
            work: Work::Sign(job),
            place,
        });
        answer.await.unwrap_or_else(|_| {
            Err(SignError::Unknown(
                "the worker ended before it answered".into(),
            ))
        })
    }

    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, SignError> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| SignError::Busy)
    }

    fn send(&self, job: Job) {
        // Without workers the job is dropped, and with it its reply, which the caller notices.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    pub(super) fn doubt(&self, reason: String) {
        if let Some(keeper) = &self.keeper {
            self.shared.doubt(keeper, reason);
        }
    }

    pub(super) fn busy(&self) -> HsmError {
        HsmError::Busy {
            token: self.shared.name.clone(),
            queue: self.shared.queue,
        }
    }

    pub(super) fn must_be_ready(&self) -> Result<(), HsmError> {
        match self.state() {
            TokenState::Ready => Ok(()),
            state => Err(HsmError::NotReady {
                token: self.shared.name.clone(),
                state,
            }),
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.jobs = None;
        self.keeper = None;
        // Ends by disconnection when the last thread has dropped its session; a thread that hangs in
        // the module keeps an Arc of it, so that C_Finalize is not called under its feet.
        if self.threads.recv_timeout(CLOSING) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(
                token = self.shared.name,
                "a thread hangs in the PKCS#11 module and is left behind"
            );
            return;
        }
        // To their very end: what the module's libraries keep for each thread is freed as it ends,
        // which must not meet the module's finalization or the end of the process.
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}
