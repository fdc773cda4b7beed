//! C_Login for the user.

use std::sync::Arc;

use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};

use super::error::HsmError;
use super::fault::Fault;
use super::keys;
use super::pin::{LoginDecision, PinFault, Refusal, decide_login};
use super::pin_source::{Pin, PinSource};
use super::refused_pin::RefusedPin;
use super::token_info::TokenInfo;
use super::token_inner::TokenInner;
use super::token_state::{TokenState, unavailable};
use crate::clock::{Clock as _, SystemClock};

pub(super) struct LoginCall {
    inner: Arc<TokenInner>,
    refused_pin: RefusedPin,
    /// Since the last attempt to connect began.
    pub(super) was_made: bool,
}

impl LoginCall {
    pub(super) fn new(inner: &Arc<TokenInner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            refused_pin: RefusedPin::new(inner.state_directory.as_deref(), &inner.name),
            was_made: false,
        }
    }

    /// `None` for a token that is used without a login.
    pub(super) fn read_pin(&self) -> Result<Option<Pin>, HsmError> {
        let source = self.inner.config.pin.as_ref();
        source.map(PinSource::read).transpose()
    }

    /// The only caller of C_Login for the user: one attempt, and none that the token refused before
    /// while nothing has changed. C_Login's answer decides; of the token's flags, which some modules
    /// do not set, only those that protect the PIN prevent an attempt.
    pub(super) fn login(
        &mut self,
        session: &Session,
        info: &TokenInfo,
        pin: Option<&Pin>,
    ) -> Result<(), TokenState> {
        let Some(pin) = pin else {
            if info.login_required && !keys::shows_private_key(session).map_err(unavailable)? {
                return Err(unavailable(format!(
                    "the token requires a login (CKF_LOGIN_REQUIRED): give pin_file or pin_env under \
                     [hsm.tokens.{}]",
                    self.inner.name
                )));
            }
            return Ok(());
        };
        if self.inner.logins().is_unanswered(pin.digest) {
            return Err(unavailable(
                "C_Login has not answered yet, and the PIN is not sent again before that, because a few wrong ones \
                 lock the token: when the HSM does not answer again, restart this process",
            ));
        }
        if self.inner.logins().refusal.is_none() {
            let reason = self
                .refused_pin
                .reason(info, &pin.source, SystemClock.now());
            if let Some(reason) = reason {
                return Err(TokenState::RefusedEarlier(reason));
            }
        }
        self.decide_login(info, pin)?;
        self.was_made = true;
        let answer = session.login(UserType::User, Some(&pin.secret));
        self.inner.logins().answered(pin.digest);
        let fault = match answer {
            Ok(()) => {
                self.inner.logins().accepted(pin.digest);
                self.refused_pin.forget();
                return Ok(());
            }
            Err(error) => Fault::from(error),
        };
        match fault.code() {
            Some(RvError::UserAlreadyLoggedIn) => return Ok(()),
            Some(
                RvError::FunctionNotSupported
                | RvError::UserPinNotInitialized
                | RvError::UserTypeInvalid,
            ) if !info.login_required => {
                tracing::info!(token = self.inner.name, answer = %fault, "the token needs no login");
                return Ok(());
            }
            _ => {}
        }
        let Some(pin_fault) = PinFault::from_code(fault.code()) else {
            return Err(unavailable(fault));
        };
        tracing::error!(
            token = self.inner.name,
            source = self.inner.config.pin_description(),
            error = %fault,
            "the token refuses the PIN"
        );
        // The attempt itself may have set a flag.
        let after = self.inner.module.token_info(info.slot);
        let flags = after.map_or(info.pin, |after| after.pin);
        let refusal = Refusal::new(pin_fault, pin, flags);
        self.inner.logins().refused(refusal);
        let now = SystemClock.now();
        self.refused_pin
            .remember(info, (pin_fault, flags), &pin.source, now);
        Err(refused(pin_fault))
    }

    /// Notes that the PIN is sent, or says why it may not be.
    fn decide_login(&self, info: &TokenInfo, pin: &Pin) -> Result<(), TokenState> {
        let mut logins = self.inner.logins();
        let final_try = logins.final_try;
        match decide_login(info.pin, logins.refusal.as_mut(), pin, final_try) {
            LoginDecision::Attempt => {}
            // `--final-try` allows one attempt.
            LoginDecision::FinalAttempt => logins.final_try = false,
            LoginDecision::Refused(fault) => return Err(refused(fault)),
            LoginDecision::FinalTryNotPermitted => return Err(TokenState::FinalTry),
        }
        logins.sent(pin.digest);
        Ok(())
    }
}

fn refused(fault: PinFault) -> TokenState {
    match fault {
        PinFault::Wrong => TokenState::PinRejected,
        PinFault::Locked => TokenState::PinLocked,
        PinFault::Expired => TokenState::PinExpired,
    }
}
