//! Each worker is a thread with a session of its own, because a PKCS#11 session runs one operation at
//! a time. It finds a key's handle once for each session. A call into the module cannot be cancelled:
//! when one hangs, only its worker hangs; callers have their own time limits, and the queue is
//! bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use tokio::sync::oneshot;

use super::error::{FaultClass, HsmError, SignError};
use super::fault::Fault;
use super::keys;
use super::lifecycle::ModuleSession;
use super::login_client::LoginClient;
use super::mechanism;
use super::place::Taker;
use super::queue::{JobQueue, Next};
use super::seat::Seat;
use super::session_state::is_usable;
use super::signing_key::SigningKey;
use super::token_inner::TokenInner;

/// Queued work, with its queue slot, which is released when a worker takes the job.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) place: Taker,
}

pub(super) enum Work {
    Sign(Signing),
    /// Any other call; it sends its own reply.
    Call(Box<dyn FnOnce(&mut Worker) + Send>),
}

pub(super) struct Signing {
    pub(super) key: Arc<SigningKey>,
    pub(super) message: Vec<u8>,
    pub(super) deadline: Instant,
    /// A test signature has its own counter.
    pub(super) test: bool,
    pub(super) reply: oneshot::Sender<Result<Vec<u8>, SignError>>,
    pub(super) busy: Busy,
}

/// Counts a request from its reservation until its worker is done with it.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Worker {
    inner: Arc<TokenInner>,
    login: LoginClient,
    seat: Arc<Seat>,
    open: Option<OpenSession>,
}

struct OpenSession {
    session: ModuleSession,
    /// How many logins the token had when this session was opened.
    login_generation: u64,
    /// By the public key's fingerprint.
    handles: HashMap<[u8; 32], ObjectHandle>,
}

impl Worker {
    pub(super) fn new(inner: Arc<TokenInner>, login: LoginClient, seat: Arc<Seat>) -> Self {
        Self {
            inner,
            login,
            seat,
            open: None,
        }
    }

    /// Ends when the queue is closed, or when its seat is to be left.
    pub(super) fn run(mut self, jobs: &JobQueue<Job>) {
        let mut interrupts = 0;
        while !self.seat.is_leaving() {
            match jobs.next(&mut interrupts) {
                Next::Job(job) if job.place.take() => self.work(job.work),
                // The caller is gone: nothing is signed.
                Next::Job(_) => {}
                Next::Interrupted if self.inner.module.is_restarting() => self.open = None,
                Next::Interrupted => {}
                Next::End => return,
            }
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Call(call) => call(self),
            Work::Sign(job) => {
                let seat = Arc::clone(&self.seat);
                let inside = seat.enter(self.inner.deadline);
                let result = self.sign(&job);
                drop((inside, job.busy));
                let _ = job.reply.send(result);
            }
        }
    }

    /// Signs; after a lost session or login once more, over the same bytes.
    fn sign(&mut self, job: &Signing) -> Result<Vec<u8>, SignError> {
        if Instant::now() >= job.deadline {
            return Err(SignError::Expired);
        }
        let generation = self.inner.login_generation();
        let first = match self.attempt(job) {
            Ok(raw) => return self.finish(job, raw),
            Err(fault) => fault,
        };
        match first.class() {
            FaultClass::Refused => return Err(SignError::Refused(first.to_string())),
            FaultClass::Busy => return Err(SignError::Unavailable(first.to_string())),
            FaultClass::Lost => {}
        }
        tracing::warn!(token = self.inner.name, error = %first, "signing failed; the session is opened again");
        let may_have_signed = first.may_have_signed();
        let fail = |reason: String, may_have_signed: bool| {
            if may_have_signed {
                Err(SignError::Unknown(reason))
            } else {
                Err(SignError::Unavailable(reason))
            }
        };
        self.open = None;
        if let Err(reason) =
            self.login
                .restore(generation, self.may_need_login(&first), job.deadline)
        {
            return fail(format!("{first}; {reason}"), may_have_signed);
        }
        if Instant::now() >= job.deadline {
            return fail(
                format!("{first}; the deadline passed before the second attempt"),
                may_have_signed,
            );
        }
        let second = match self.attempt(job) {
            Ok(raw) => return self.finish(job, raw),
            Err(fault) => fault,
        };
        self.open = None;
        if second.class() == FaultClass::Refused && !may_have_signed {
            return Err(SignError::Refused(second.to_string()));
        }
        self.login.report_failure(second.to_string());
        fail(
            format!("{second} (after {first})"),
            may_have_signed || second.may_have_signed(),
        )
    }

    /// Whether a new login may help although the session looks usable.
    fn may_need_login(&self, fault: &Fault) -> bool {
        fault.not_logged_in() || !self.inner.login_is_shown()
    }

    /// C_SignInit and C_Sign.
    fn attempt(&mut self, job: &Signing) -> Result<Vec<u8>, Fault> {
        let open = current_session(&self.inner, &mut self.open)?;
        // The module may have been started again meanwhile.
        if Instant::now() >= job.deadline {
            return Err(Fault::other(
                "C_SignInit",
                "the deadline passed before a session was open",
            ));
        }
        let fingerprint = job.key.fingerprint;
        let handle = match open.handles.get(&fingerprint) {
            Some(known) => *known,
            None => {
                let found = keys::find(&self.inner, &open.session, &job.key)?;
                open.handles.insert(fingerprint, found);
                found
            }
        };
        let (algorithm, hashed) = (job.key.algorithm, self.inner.hashed_in_token());
        let started = Instant::now();
        let signed = mechanism::sign(&open.session, handle, algorithm, hashed, &job.message);
        if signed.is_ok() {
            self.inner.add_signing_time(started.elapsed());
        }
        signed.inspect_err(|fault| {
            if fault.may_have_signed() {
                self.inner
                    .unconfirmed_signatures
                    .fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// A signature exists, so every error from here on is [`SignError::Unknown`].
    fn finish(&self, job: &Signing, raw: Vec<u8>) -> Result<Vec<u8>, SignError> {
        let counter = if job.test {
            &self.inner.test_signatures
        } else {
            &self.inner.signatures
        };
        counter.fetch_add(1, Ordering::Relaxed);
        mechanism::signature(job.key.public.kind(), raw).map_err(SignError::Unknown)
    }

    /// Runs `call` in a session that is logged in; after a lost session once more if `retry`.
    pub(super) fn call<T>(
        &mut self,
        deadline: Instant,
        retry: bool,
        call: impl Fn(&TokenInner, &Session) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let (inner, seat) = (Arc::clone(&self.inner), Arc::clone(&self.seat));
        let limit = deadline.saturating_duration_since(Instant::now());
        let _inside = seat.enter(limit);
        let mut attempts = if retry { 2 } else { 1 };
        loop {
            attempts -= 1;
            let generation = inner.login_generation();
            let result = logged_in_session(&inner, &mut self.open)
                .map_err(|fault| inner.call_error(fault))
                .and_then(|open| call(&inner, &open.session));
            match result {
                Err(HsmError::Call { fault, .. })
                    if fault.class() == FaultClass::Lost && attempts > 0 =>
                {
                    self.open = None;
                    self.login
                        .restore(generation, self.may_need_login(&fault), deadline)
                        .map_err(|reason| {
                            inner.call_error(Fault::other("C_OpenSession", reason))
                        })?;
                }
                other => return other,
            }
        }
    }
}

/// Opens a session when there is none, or when a login has made it stale.
fn current_session<'a>(
    inner: &TokenInner,
    open: &'a mut Option<OpenSession>,
) -> Result<&'a mut OpenSession, Fault> {
    let login_generation = inner.login_generation();
    if open
        .as_ref()
        .is_none_or(|open| open.login_generation != login_generation)
    {
        // The stale session is closed before the next one opens: tokens limit sessions.
        *open = None;
        let session = inner.module.session(inner.slot()?)?;
        *open = Some(OpenSession {
            session,
            login_generation,
            handles: HashMap::new(),
        });
    }
    open.as_mut()
        .ok_or_else(|| Fault::other("C_OpenSession", "no session"))
}

/// Without a login the token hides private keys and reports no error, so the login is checked first.
fn logged_in_session<'a>(
    inner: &TokenInner,
    open: &'a mut Option<OpenSession>,
) -> Result<&'a mut OpenSession, Fault> {
    let open = current_session(inner, open)?;
    if is_usable(inner, &open.session)? {
        Ok(open)
    } else {
        Err(Fault::other(
            "C_GetSessionInfo",
            "nobody is logged in to the token",
        ))
    }
}
