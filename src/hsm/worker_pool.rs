use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use cryptoki::session::Session;
use tokio::sync::oneshot;

use super::error::{HsmError, SignError};
use super::lifecycle::SessionHolder;
use super::login_client::LoginClient;
use super::place::Place;
use super::queue::JobQueue;
use super::signing_key::{SigningKey, TEST_MESSAGE};
use super::slots::{QueueSlot, Slots};
use super::supervisor::Supervisor;
use super::token_inner::TokenInner;
use super::token_state::TokenState;
use super::worker::{Busy, Job, Signing, Work};
use crate::fair_queue::Share;

/// How long dropping waits for threads that are inside the module.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A token's threads and their bounded queue. Dropped, it waits up to two seconds for the threads;
/// one that hangs in the module is abandoned, and the module is then not finalized.
pub(super) struct WorkerPool {
    pub(super) inner: Arc<TokenInner>,
    queue: Arc<JobQueue<Job>>,
    slots: Arc<Slots>,
    /// How many requests wait or are being signed.
    in_use: Arc<AtomicUsize>,
    /// The module has a weak reference to it. `None` once the pool is being dropped.
    holder: Option<Arc<Holder>>,
    /// Disconnected when the last thread has dropped its session.
    running: Receiver<Infallible>,
    /// Dropped to end the supervisor.
    stop: Option<Sender<Infallible>>,
    supervisor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

/// What the module asks for its sessions.
struct Holder {
    inner: Arc<TokenInner>,
    queue: Arc<JobQueue<Job>>,
    login: LoginClient,
}

impl SessionHolder for Holder {
    fn release_sessions(&self) {
        self.queue.interrupt();
        self.login.release_session();
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }
}

/// How much of a request's time is for the queue and the signature.
const TIME_FOR_SIGNING: f64 = 0.8;

/// The result of a self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How long the test signature took, waiting included; `None` when no key is open, so that only
    /// the login was checked.
    pub signing_time: Option<Duration>,
}

impl WorkerPool {
    /// Succeeds although the token is missing or the PIN wrong: the state says so.
    pub(super) fn start(inner: TokenInner) -> Result<Self, HsmError> {
        let inner = Arc::new(inner);
        let queue = Arc::new(JobQueue::new());
        let (alive, running) = bounded(0);
        let failed = |error: std::io::Error| HsmError::Thread {
            token: inner.name.clone(),
            reason: error.to_string(),
        };
        let (login, logins) = LoginClient::new(&inner);
        let (stop, stopped) = bounded(0);
        let supervisor = Supervisor::new(&inner, &queue, (login.clone(), logins), alive)?;
        let supervisor = thread::Builder::new()
            .name(format!("hsm-{}-workers", inner.name))
            .spawn(move || supervisor.run(&stopped))
            .inspect_err(|_| queue.close())
            .map_err(failed)?;
        let holder = Arc::new(Holder {
            inner: Arc::clone(&inner),
            queue: Arc::clone(&queue),
            login,
        });
        let registered: Arc<dyn SessionHolder> = holder.clone();
        inner.module.register(Arc::downgrade(&registered));
        Ok(Self {
            slots: Arc::new(Slots::new(inner.queue)),
            in_use: Arc::default(),
            inner,
            queue,
            holder: Some(holder),
            running,
            stop: Some(stop),
            supervisor: Some(supervisor),
        })
    }

    /// How many requests wait for a worker.
    pub(super) fn queued(&self) -> usize {
        self.slots.used()
    }

    /// To be held from the reservation to the signature.
    pub(super) fn busy(&self) -> Busy {
        Busy::new(&self.in_use)
    }

    /// When a request that comes now would be signed, about.
    pub(super) fn expected_time(&self) -> Duration {
        let expected = self.inner.time_for(self.in_use.load(Ordering::Relaxed));
        // A token that hangs is slower than it was.
        expected.max(self.inner.seats.shortest_call())
    }

    /// Reserves a queue slot.
    pub(super) fn reserve(&self, share: Share) -> Result<QueueSlot, SignError> {
        self.in_time(share)?;
        self.slots.reserve(share)
    }

    /// Whether a slot could be reserved now.
    pub(super) fn look(&self, share: Share) -> Result<(), SignError> {
        self.in_time(share)?;
        self.slots.look(share)
    }

    /// Refuses what could not be signed in the time that a request has.
    fn in_time(&self, share: Share) -> Result<(), SignError> {
        // What must be recorded first takes a part of it.
        let limit = self.inner.deadline.mul_f64(TIME_FOR_SIGNING);
        match self.inner.wait_behind(self.slots.ahead(share)) {
            Some(wait) if wait > limit && !share.is_own() => {
                Err(SignError::TooLate { wait, limit })
            }
            _ => Ok(()),
        }
    }

    /// Runs `call` in a worker, and waits up to `limit` for its result; `what` is for the error.
    /// After a lost session it runs once more if `retry`.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        retry: bool,
        call: impl Fn(&TokenInner, &Session) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        self.inner.require_ready()?;
        let slot = self.reserve(Share::own(what));
        let queue_slot = slot.map_err(|_| self.inner.busy_error())?;
        let (reply, result) = oneshot::channel();
        let deadline = Instant::now() + limit;
        // After the time limit the call does not run: its caller has returned an error.
        let work = Work::Call(Box::new(move |worker| {
            let _ = reply.send(worker.call(deadline, retry, call));
        }));
        let _place = self.send(work, queue_slot);
        match tokio::time::timeout(limit, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(self.timeout_error(what, limit)),
        }
    }

    /// As [`Permit::sign`](super::Permit::sign).
    pub(super) async fn sign(
        &self,
        key: &Arc<SigningKey>,
        message: &[u8],
        deadline: Instant,
        test: bool,
        (queue_slot, busy): (QueueSlot, Busy),
    ) -> Result<Vec<u8>, SignError> {
        let (reply, signature) = oneshot::channel();
        let job = Signing {
            key: Arc::clone(key),
            message: message.to_vec(),
            deadline,
            test,
            reply,
            busy,
        };
        let place = self.send(Work::Sign(job), queue_slot);
        let mut signature = signature;
        let at = tokio::time::Instant::from_std(deadline);
        let signed = match tokio::time::timeout_at(at, &mut signature).await {
            Ok(signed) => signed,
            Err(_) if place.give_up() => return Err(SignError::Expired),
            // A worker has it.
            Err(_) => signature.await,
        };
        signed.unwrap_or_else(|_| {
            Err(SignError::Unknown(
                "the worker ended before it replied".into(),
            ))
        })
    }

    /// As [`Token::probe`](super::Token::probe), with this key.
    pub(super) async fn self_test(&self, key: &Arc<SigningKey>) -> Result<Probe, HsmError> {
        self.inner.require_ready()?;
        let slot = self.reserve(Share::own("self-test"));
        let queue_slot = slot.map_err(|_| self.inner.busy_error())?;
        let limit = self.inner.deadline;
        let start = Instant::now();
        // Below it is given up first.
        let late = start + limit.saturating_mul(2);
        let signing = self.sign(key, TEST_MESSAGE, late, true, (queue_slot, self.busy()));
        let result = match tokio::time::timeout(limit, signing).await {
            Ok(Ok(signature)) => key.verify_test_signature(&signature),
            Ok(Err(
                SignError::Busy
                | SignError::ShareInUse(_)
                | SignError::TooLate { .. }
                | SignError::Expired,
            )) => {
                return Err(self.inner.busy_error());
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let error = self.timeout_error("to make a test signature", limit);
                // Set here, because the login thread may hang as well.
                self.inner
                    .set_state(TokenState::Unavailable(error.to_string()));
                self.report_failure(error.to_string());
                return Err(error);
            }
        };
        match result {
            Ok(()) => Ok(Probe {
                signing_time: Some(start.elapsed()),
            }),
            Err(reason) => {
                self.report_failure(reason.clone());
                Err(HsmError::Probe {
                    token: self.inner.name.clone(),
                    reason,
                })
            }
        }
    }

    fn report_failure(&self, reason: String) {
        if let Some(holder) = &self.holder {
            holder.login.report_failure(reason);
        }
    }

    /// Once the queue is closed, the job is dropped with its reply, which the caller notices. The caller
    /// that drops the place has given up.
    fn send(&self, work: Work, queue_slot: QueueSlot) -> Place {
        let share = queue_slot.share();
        let place = Place::new(queue_slot);
        let job = Job {
            work,
            place: place.clone_for_worker(),
        };
        self.queue.push(&share, job);
        place
    }

    fn timeout_error(&self, what: &'static str, after: Duration) -> HsmError {
        HsmError::Timeout {
            token: self.inner.name.clone(),
            what,
            after,
        }
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.queue.close();
        self.holder = None;
        self.stop = None;
        // A thread that hangs in the module still has an Arc of it, so C_Finalize is not called.
        if self.running.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                token = self.inner.name,
                "a thread hangs in the PKCS#11 module and is abandoned"
            );
            return;
        }
        // The module's libraries free their thread-local data when a thread ends, which must not
        // coincide with C_Finalize or the end of the process.
        let threads = self.supervisor.take().map(JoinHandle::join);
        for thread in threads.and_then(Result::ok).unwrap_or_default() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool")
            .field("token", &self.inner.name)
            .field("state", &self.inner.state())
            .finish_non_exhaustive()
    }
}
