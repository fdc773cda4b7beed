//! The bounded queue, and the workers that empty it.
//!
//! Each worker is a thread with a session of its own, because a PKCS#11 session does one thing at a
//! time. It looks a key's handle up once for each session. A call into the module cannot be
//! cancelled: a worker that hangs in one hangs alone, callers have their own time-outs, and the
//! queue's bound turns the rest away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::{HsmError, SignError};
use super::fault::{Class, Fault};
use super::keeper::{Request, is_logged_in};
use super::keys::{self, SigningKey};
use super::mechanism;
use super::shared::Shared;

/// Something to do, with its place in the queue, which is free again once a worker has it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) place: OwnedSemaphorePermit,
}

/// What a worker does.
pub(super) enum Work {
    /// Sign.
    Sign(Signing),
    /// Anything else; it sends its answer itself.
    Call(Box<dyn FnOnce(&mut Worker) + Send>),
}

/// Sign these bytes.
pub(super) struct Signing {
    pub(super) key: Arc<SigningKey>,
    pub(super) input: Vec<u8>,
    pub(super) deadline: Instant,
    /// True for a test signature, which is counted apart.
    pub(super) test: bool,
    pub(super) reply: oneshot::Sender<Result<Vec<u8>, SignError>>,
}

/// A worker's own.
pub(super) struct Worker {
    shared: Arc<Shared>,
    keeper: Sender<Request>,
    number: usize,
    open: Option<Open>,
}

/// A session, and the handles that were found in it.
struct Open {
    session: Session,
    epoch: u64,
    handles: HashMap<Vec<u8>, ObjectHandle>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, keeper: Sender<Request>, number: usize) -> Self {
        Self {
            shared,
            keeper,
            number,
            open: None,
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(Job { work, place }) = jobs.recv() {
            drop(place);
            match work {
                Work::Call(call) => call(&mut self),
                // Nobody waits: a signature would be for nobody.
                Work::Sign(job) if job.reply.is_closed() => {}
                Work::Sign(job) => {
                    self.shared.set_busy(self.number, true);
                    let answer = self.sign(&job);
                    self.shared.set_busy(self.number, false);
                    let _ = job.reply.send(answer);
                }
            }
        }
    }

    /// Signs; after a lost session or login once more, over the same bytes.
    fn sign(&mut self, job: &Signing) -> Result<Vec<u8>, SignError> {
        if Instant::now() >= job.deadline {
            return Err(SignError::Expired);
        }
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        let first = match self.attempt(job) {
            Ok(raw) => return self.finish(job, raw),
            Err(fault) => fault,
        };
        match first.class() {
            Class::Refused => return Err(SignError::Refused(first.to_string())),
            Class::Busy => return Err(SignError::Unavailable(first.to_string())),
            Class::Lost => {}
        }
        tracing::warn!(token = self.shared.name, error = %first, "signing failed; the session is opened again");
        let doubt = first.leaves_doubt();
        let give_up = |reason: String, doubt: bool| {
            if doubt {
                Err(SignError::Unknown(reason))
            } else {
                Err(SignError::Unavailable(reason))
            }
        };
        self.open = None;
        if let Err(reason) = restore(&self.keeper, epoch, first.not_logged_in(), job.deadline) {
            return give_up(format!("{first}; {reason}"), doubt);
        }
        if Instant::now() >= job.deadline {
            return give_up(
                format!("{first}; the deadline passed before it could be asked again"),
                doubt,
            );
        }
        let second = match self.attempt(job) {
            Ok(raw) => return self.finish(job, raw),
            Err(fault) => fault,
        };
        self.open = None;
        if second.class() == Class::Refused && !doubt {
            return Err(SignError::Refused(second.to_string()));
        }
        self.shared.doubt(&self.keeper, second.to_string());
        give_up(
            format!("{second} (after {first})"),
            doubt || second.leaves_doubt(),
        )
    }

    /// One C_SignInit and C_Sign.
    fn attempt(&mut self, job: &Signing) -> Result<Vec<u8>, Fault> {
        let open = current(&self.shared, &mut self.open)?;
        let id = &job.key.id;
        let handle = match open.handles.get(id) {
            Some(known) => *known,
            None => {
                let found = keys::find(&open.session, id)?;
                open.handles.insert(id.clone(), found);
                found
            }
        };
        let signed = open.session.sign(
            &mechanism::signing(job.key.public.kind()),
            handle,
            &job.input,
        );
        signed.map_err(Fault::from).inspect_err(|fault| {
            if fault.leaves_doubt() {
                self.shared
                    .doubtful_signatures
                    .fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// The token has signed: from here on no signature can be undone.
    fn finish(&self, job: &Signing, raw: Vec<u8>) -> Result<Vec<u8>, SignError> {
        let count = if job.test {
            &self.shared.test_signatures
        } else {
            &self.shared.signatures
        };
        count.fetch_add(1, Ordering::Relaxed);
        mechanism::signature(job.key.public.kind(), raw).map_err(SignError::Unknown)
    }

    /// Runs `call` in a session that is logged in; once more after a lost session when `again`.
    pub(super) fn call<T>(
        &mut self,
        deadline: Instant,
        again: bool,
        call: impl Fn(&Shared, &Session) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let shared = Arc::clone(&self.shared);
        let fail = |fault: Fault| HsmError::Call {
            token: shared.name.clone(),
            fault,
        };
        let mut tries = if again { 2 } else { 1 };
        loop {
            tries -= 1;
            let epoch = shared.epoch.load(Ordering::SeqCst);
            // Without a login private keys are not seen, and no error says so.
            let outcome = logged_in(&shared, &mut self.open)
                .map_err(fail)
                .and_then(|open| call(&shared, &open.session));
            match outcome {
                Err(HsmError::Call { fault, .. }) if fault.class() == Class::Lost && tries > 0 => {
                    self.open = None;
                    restore(&self.keeper, epoch, fault.not_logged_in(), deadline)
                        .map_err(|reason| fail(Fault::other("C_OpenSession", reason)))?;
                }
                other => return other,
            }
        }
    }
}

/// The worker's session; a new one when there is none, or when a login has made it stale.
fn current<'a>(shared: &Shared, open: &'a mut Option<Open>) -> Result<&'a mut Open, Fault> {
    let epoch = shared.epoch.load(Ordering::SeqCst);
    if open.as_ref().is_none_or(|open| open.epoch != epoch) {
        // What is stale is closed before the next one opens: tokens count sessions.
        *open = None;
        let info = shared
            .info()
            .ok_or_else(|| Fault::other("C_OpenSession", shared.state().to_string()))?;
        let session = shared.module.session(info.slot)?;
        *open = Some(Open {
            session,
            epoch,
            handles: HashMap::new(),
        });
    }
    open.as_mut()
        .ok_or_else(|| Fault::other("C_OpenSession", "no session"))
}

fn logged_in<'a>(shared: &Shared, open: &'a mut Option<Open>) -> Result<&'a mut Open, Fault> {
    let open = current(shared, open)?;
    if is_logged_in(&open.session)? {
        Ok(open)
    } else {
        Err(Fault::other(
            "C_GetSessionInfo",
            "nobody is logged in to the token",
        ))
    }
}

/// Asks the keeper to see that a new session will be logged in, and waits until `deadline`.
fn restore(
    keeper: &Sender<Request>,
    epoch: u64,
    not_logged_in: bool,
    deadline: Instant,
) -> Result<(), String> {
    let (reply, answer) = bounded(1);
    let gone = || "the token is being closed".to_owned();
    keeper
        .send(Request::Restore {
            epoch,
            not_logged_in,
            reply,
        })
        .map_err(|_| gone())?;
    answer
        .recv_deadline(deadline)
        .map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                "the session could not be restored before the deadline".into()
            }
            RecvTimeoutError::Disconnected => gone(),
        })?
}
