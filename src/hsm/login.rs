//! A PKCS#11 login belongs to the process and lasts as long as any session does. The login thread's
//! session signs only self-tests, so it outlives every worker's; this thread alone logs in, and it
//! decides the token's state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use cryptoki::session::Session;

use super::fault::Fault;
use super::keys;
use super::library::Start;
use super::lifecycle::ModuleSession;
use super::login_call::LoginCall;
use super::login_client::LoginRequest;
use super::module::select;
use super::module_restart::ModuleRestart;
use super::seat::Seat;
use super::session_state::{is_logged_in, is_usable};
use super::token_inner::TokenInner;
use super::token_state::{TokenState, unavailable};
use crate::backoff::Backoff;

/// How often the PIN's source and the token's flags are read after the token refused a PIN.
const PIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Short, because the token is usable only after the next attempt.
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// A restart of the module waits for its sessions, and then for the HSM.
const LONGEST_WORK: Duration = Duration::from_secs(5);

/// Why the token is not connected.
struct NotConnected {
    state: TokenState,
    /// Whether C_Finalize and C_Initialize may help.
    module_may_be_the_cause: bool,
}

impl From<TokenState> for NotConnected {
    fn from(state: TokenState) -> Self {
        Self {
            module_may_be_the_cause: !state.needs_operator(),
            state,
        }
    }
}

pub(super) struct LoginThread {
    inner: Arc<TokenInner>,
    requests: Receiver<LoginRequest>,
    seat: Arc<Seat>,
    session: Option<ModuleSession>,
    call: LoginCall,
    /// True after the token was ready once: a token that lost its device may log in and find keys,
    /// and fail only when it signs, so it must pass a self-test before it is ready again.
    needs_self_test: bool,
    backoff: Backoff,
    next_check: Instant,
    module_restart: ModuleRestart,
}

impl LoginThread {
    /// `requests` are those of this token's [`LoginClient`]s, which a thread that hangs leaves to the next.
    pub(super) fn new(
        inner: &Arc<TokenInner>,
        requests: Receiver<LoginRequest>,
        seat: Arc<Seat>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            requests,
            seat,
            session: None,
            call: LoginCall::new(inner),
            needs_self_test: inner.login_generation() > 0,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            next_check: Instant::now(),
            module_restart: ModuleRestart::default(),
        }
    }

    /// Ends when every [`LoginClient`](super::login_client::LoginClient) is dropped, or when another thread
    /// has taken over.
    pub(super) fn run(mut self) {
        let seat = Arc::clone(&self.seat);
        while !seat.is_leaving() {
            let request = self.requests.recv_deadline(self.next_check);
            let _inside = seat.enter(self.inner.deadline.max(LONGEST_WORK));
            match request {
                Ok(LoginRequest::Restore {
                    generation,
                    not_logged_in,
                    reply,
                }) => {
                    // The worker may have passed its deadline.
                    let _ = reply.send(self.restore(generation, not_logged_in));
                }
                Ok(LoginRequest::CheckFailure(reason)) => self.check_failure(&reason),
                Ok(LoginRequest::ReleaseSession) => self.release_session(),
                Err(RecvTimeoutError::Timeout) if self.session.is_some() => self.check(),
                Err(RecvTimeoutError::Timeout) => self.connect(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Finds the token, opens a session and logs in; where that fails, once more in a module that was
    /// started again. With one login at most.
    fn connect(&mut self) {
        self.call.was_made = false;
        if self.connect_once()
            && !self.seat.is_leaving()
            && self.module_restart.attempt(&self.inner)
            && !self.call.was_made
        {
            self.connect_once();
        }
    }

    /// Whether it failed, and C_Finalize and C_Initialize may help.
    fn connect_once(&mut self) -> bool {
        match self.try_connect() {
            Ok(()) => {
                self.set_ready();
                false
            }
            Err(NotConnected {
                state,
                module_may_be_the_cause,
            }) => {
                self.set_not_ready(state);
                module_may_be_the_cause
            }
        }
    }

    /// For another token's restart of the module. The login follows at once, when the restart is over.
    fn release_session(&mut self) {
        if self.session.is_some() && self.inner.module.is_restarting() {
            self.session = None;
            self.connect();
        }
    }

    fn try_connect(&mut self) -> Result<(), NotConnected> {
        let pin = self.call.read_pin();
        let refusal = self.inner.logins().refusal;
        if let Ok(Some(pin)) = &pin
            && refusal.is_some_and(|refusal| refusal.is_wrong(pin))
        {
            return Err(TokenState::PinRejected.into());
        }
        let inner = Arc::clone(&self.inner);
        let started = inner.module.start().map_err(|error| NotConnected {
            state: unavailable(error),
            module_may_be_the_cause: false,
        })?;
        if started == Start::Again {
            inner.module_restarts.fetch_add(1, Ordering::Relaxed);
        }
        let guard = inner.module.lock_for_login();
        let slots = inner.module.slots().map_err(unavailable)?;
        let info = select(slots, &inner.config).map_err(unavailable)?;
        let session = inner.module.session(info.slot).map_err(unavailable)?;
        // A worker's session may have preserved the login.
        if !is_logged_in(&session).map_err(unavailable)? {
            let pin = pin.map_err(|error| NotConnected {
                state: unavailable(error),
                module_may_be_the_cause: false,
            })?;
            self.call.login(&session, &info, pin.as_ref())?;
        }
        drop(guard);
        let login_is_shown = is_logged_in(&session).map_err(unavailable)?;
        self.is_still_in_charge()?;
        inner.set_login_is_shown(login_is_shown);
        inner.set_logged_in(info);
        if self.needs_self_test {
            self.self_test(&session).map_err(unavailable)?;
        }
        self.session = Some(session);
        Ok(())
    }

    /// A call of this thread has returned after another one took over.
    fn is_still_in_charge(&self) -> Result<(), TokenState> {
        match self.seat.is_leaving() {
            true => Err(unavailable("another thread logs in")),
            false => Ok(()),
        }
    }

    /// The periodic check of a token that is ready.
    fn check(&mut self) {
        let is_same_token = self.inner.info().is_some_and(|known| {
            let now = self.inner.module.token_info(known.slot);
            now.is_ok_and(|now| now.serial == known.serial)
        });
        if is_same_token {
            // The state shows the result.
            let _ = self.restore(self.inner.login_generation(), false);
        } else {
            self.session = None;
            self.connect();
        }
    }

    /// Makes sure that a new session will be logged in: first checks the session, then logs in
    /// again, then connects again; with one login at most.
    fn restore(&mut self, generation: u64, not_logged_in: bool) -> Result<(), String> {
        let Some(session) = self.session.take() else {
            return Err(self.inner.state().to_string());
        };
        if self.inner.login_generation() > generation {
            // Restored for another worker already.
            self.session = Some(session);
            return Ok(());
        }
        match is_usable(&self.inner, &session) {
            Ok(true) if !not_logged_in => {
                self.session = Some(session);
                self.next_check = Instant::now() + self.inner.probe_interval;
                return Ok(());
            }
            Ok(_) => match self.login_again(&session) {
                Ok(()) => {
                    tracing::warn!(
                        token = self.inner.name,
                        "the token's login was lost and is restored"
                    );
                    self.session = Some(session);
                    self.set_ready();
                }
                Err(state) => self.set_not_ready(state),
            },
            Err(fault) => {
                tracing::warn!(token = self.inner.name, error = %fault, "the login session was lost");
                drop(session);
                self.connect();
            }
        }
        if self.session.is_some() {
            Ok(())
        } else {
            Err(self.inner.state().to_string())
        }
    }

    fn login_again(&mut self, session: &Session) -> Result<(), TokenState> {
        let slot = self.inner.slot().map_err(unavailable)?;
        let info = self.inner.module.token_info(slot).map_err(unavailable)?;
        let pin = self.call.read_pin().map_err(unavailable)?;
        self.call.login(session, &info, pin.as_ref())?;
        self.is_still_in_charge()?;
        self.inner.set_logged_in(info);
        Ok(())
    }

    /// The token stays ready if it passes a self-test.
    fn check_failure(&mut self, reason: &str) {
        self.inner.start_failure_check();
        let Some(session) = self.session.take() else {
            return;
        };
        match self.self_test(&session) {
            Ok(()) => {
                self.session = Some(session);
                self.set_ready();
            }
            Err(fault) => {
                drop(session);
                self.set_not_ready(unavailable(format!(
                    "{reason}; the test signature failed as well: {fault}"
                )));
            }
        }
    }

    /// Passes when one open key makes a valid test signature, or no key is open.
    fn self_test(&self, session: &Session) -> Result<(), Fault> {
        let mut result = Ok(());
        for key in self.inner.open_keys() {
            result = keys::self_test(&self.inner, session, &key);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn set_ready(&mut self) {
        if self.seat.is_leaving() {
            return;
        }
        self.needs_self_test = true;
        self.backoff.reset();
        self.module_restart.reset();
        self.next_check = Instant::now() + self.inner.probe_interval;
        self.inner.set_state(TokenState::Ready);
    }

    fn set_not_ready(&mut self, state: TokenState) {
        self.session = None;
        if self.seat.is_leaving() {
            return;
        }
        let delay = if state.needs_operator() {
            PIN_POLL_INTERVAL
        } else {
            self.backoff.next_delay()
        };
        self.next_check = Instant::now() + delay;
        self.inner.set_state(state);
    }
}
