//! The keeper: a thread for each token that holds the login.
//!
//! A PKCS#11 login belongs to the process and lasts as long as any session does. The keeper's
//! session is never used to sign for anybody, so it outlives every worker's; it alone logs in, and
//! it alone decides what state the token is in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use cryptoki::error::RvError;
use cryptoki::session::{Session, SessionState, UserType};

use super::fault::Fault;
use super::keys;
use super::module::{TokenInfo, select};
use super::pin::{Pin, PinDigest, Verdict, judge};
use super::shared::{Shared, TokenState};

/// How often the PIN's source is read again after a PIN was refused.
const PIN_POLL: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: recovery must not take more than a few seconds after the token is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// What others ask of the keeper.
pub(super) enum Request {
    /// A worker lost its session or login at `epoch`: see that a new session will be logged in.
    Restore {
        epoch: u64,
        not_logged_in: bool,
        reply: Sender<Result<(), String>>,
    },
    /// Signing failed beyond what a new session repairs.
    Doubt(String),
}

/// The keeper's own memory.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    session: Option<Session>,
    rejected: Option<PinDigest>,
    final_try: bool,
    /// Set once the token was ready: from then on a test signature comes before it is called ready
    /// again, since a token whose far side is gone may log in and find keys, and fail
    /// only when it signs.
    must_prove: bool,
    pause: Duration,
    next: Instant,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let final_try = shared.config.final_try;
        Self {
            shared,
            session: None,
            rejected: None,
            final_try,
            must_prove: false,
            pause: FIRST_PAUSE,
            next: Instant::now(),
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_deadline(self.next) {
                Ok(Request::Restore {
                    epoch,
                    not_logged_in,
                    reply,
                }) => {
                    // The worker may have run out of time, which is its own affair.
                    let _ = reply.send(self.restore(epoch, not_logged_in));
                }
                Ok(Request::Doubt(reason)) => self.doubt(&reason),
                Err(RecvTimeoutError::Timeout) if self.session.is_some() => self.look(),
                Err(RecvTimeoutError::Timeout) => self.connect(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// From nothing to ready, or to a state that says why not.
    fn connect(&mut self) {
        match self.try_connect() {
            Ok(()) => self.ready(),
            Err(state) => self.down(state),
        }
    }

    fn try_connect(&mut self) -> Result<(), TokenState> {
        let pin = self.shared.config.pin.read();
        if let Ok(pin) = &pin
            && self.rejected == Some(pin.digest)
        {
            return Err(TokenState::PinRejected);
        }
        let shared = Arc::clone(&self.shared);
        let guard = shared.module.lifecycle();
        let slots = shared.module.slots().map_err(unavailable)?;
        let info = select(slots, &shared.config).map_err(unavailable)?;
        let session = shared.module.session(info.slot).map_err(unavailable)?;
        // Workers' sessions may have kept the login alive.
        if !is_logged_in(&session).map_err(unavailable)? {
            self.login(&session, &info, &pin.map_err(unavailable)?)?;
        }
        drop(guard);
        shared.set_info(info);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if self.must_prove {
            self.prove(&session).map_err(unavailable)?;
        }
        self.session = Some(session);
        Ok(())
    }

    /// The only place that sends a PIN: once, and never one that was refused before.
    fn login(&mut self, session: &Session, info: &TokenInfo, pin: &Pin) -> Result<(), TokenState> {
        if !info.pin_initialized {
            return Err(unavailable(format!(
                "token {:?} has no user PIN yet",
                info.label
            )));
        }
        match judge(info.pin, self.rejected, pin.digest, self.final_try) {
            Verdict::Try => {}
            // The word was for one attempt.
            Verdict::TryForTheLastTime => self.final_try = false,
            Verdict::Rejected => return Err(TokenState::PinRejected),
            Verdict::FinalTry => return Err(TokenState::FinalTry),
        }
        let fault = match session.login(UserType::User, Some(&pin.secret)) {
            Ok(()) => {
                self.rejected = None;
                return Ok(());
            }
            Err(error) => Fault::from(error),
        };
        match fault.code() {
            Some(RvError::UserAlreadyLoggedIn) => Ok(()),
            Some(
                RvError::PinIncorrect
                | RvError::PinLocked
                | RvError::PinLenRange
                | RvError::PinInvalid
                | RvError::PinExpired,
            ) => {
                tracing::error!(
                    token = self.shared.name,
                    source = %self.shared.config.pin,
                    error = %fault,
                    "the token refuses the PIN"
                );
                self.rejected = Some(pin.digest);
                Err(TokenState::PinRejected)
            }
            _ => Err(unavailable(fault)),
        }
    }

    /// The regular look at a token that is ready.
    fn look(&mut self) {
        let Some(known) = self.shared.info() else {
            return self.connect();
        };
        let same = self
            .shared
            .module
            .token_info(known.slot)
            .is_ok_and(|now| now.serial == known.serial);
        if !same {
            self.session = None;
            return self.connect();
        }
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        // Its answer is the state.
        let _ = self.restore(epoch, false);
    }

    /// Sees that a session that is opened now is logged in: looks first, then logs in again, then
    /// starts from nothing; one login at most.
    fn restore(&mut self, epoch: u64, not_logged_in: bool) -> Result<(), String> {
        let Some(session) = self.session.take() else {
            return Err(self.shared.state().to_string());
        };
        if self.shared.epoch.load(Ordering::SeqCst) > epoch {
            // Another worker was here first.
            self.session = Some(session);
            return Ok(());
        }
        match is_logged_in(&session) {
            Ok(true) if !not_logged_in => {
                self.session = Some(session);
                self.next = Instant::now() + self.shared.probe_interval;
                return Ok(());
            }
            Ok(_) => match self.login_again(&session) {
                Ok(()) => {
                    tracing::warn!(
                        token = self.shared.name,
                        "the token's login was lost, and is restored"
                    );
                    self.session = Some(session);
                    self.ready();
                }
                Err(state) => self.down(state),
            },
            Err(fault) => {
                tracing::warn!(token = self.shared.name, error = %fault, "the keeper's session was lost");
                drop(session);
                self.connect();
            }
        }
        if self.session.is_some() {
            Ok(())
        } else {
            Err(self.shared.state().to_string())
        }
    }

    fn login_again(&mut self, session: &Session) -> Result<(), TokenState> {
        let shared = Arc::clone(&self.shared);
        let slot = shared.info().map_or(0, |info| info.slot);
        let info = shared.module.token_info(slot).map_err(unavailable)?;
        let pin = shared.config.pin.read().map_err(unavailable)?;
        self.login(session, &info, &pin)?;
        shared.set_info(info);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Signing failed twice, or nobody answered: the token signs for the keeper, or it is down.
    fn doubt(&mut self, reason: &str) {
        self.shared.hear_doubt();
        let Some(session) = self.session.take() else {
            return;
        };
        match self.prove(&session) {
            Ok(()) => {
                self.session = Some(session);
                self.ready();
            }
            Err(fault) => {
                drop(session);
                self.down(unavailable(format!(
                    "{reason}; the test signature failed as well: {fault}"
                )));
            }
        }
    }

    /// A test signature with any key in use. With no key in use there is nothing to prove.
    fn prove(&self, session: &Session) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for key in self.shared.opened() {
            outcome = keys::find(session, &key.id)
                .and_then(|handle| keys::test(&self.shared, session, handle, &key));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn ready(&mut self) {
        self.must_prove = true;
        self.pause = FIRST_PAUSE;
        self.next = Instant::now() + self.shared.probe_interval;
        self.shared.set_state(TokenState::Ready);
    }

    fn down(&mut self, state: TokenState) {
        self.session = None;
        let pause = match state {
            TokenState::PinRejected | TokenState::FinalTry => PIN_POLL,
            _ => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        self.next = Instant::now() + pause;
        self.shared.set_state(state);
    }
}

/// Whether the user is logged in, as the session sees it.
pub(super) fn is_logged_in(session: &Session) -> Result<bool, Fault> {
    let info = session.get_session_info()?;
    Ok(matches!(
        info.session_state(),
        SessionState::RoUser | SessionState::RwUser
    ))
}

fn unavailable(reason: impl ToString) -> TokenState {
    TokenState::Unavailable(reason.to_string())
}
