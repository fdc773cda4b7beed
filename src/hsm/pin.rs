//! The decision whether the user PIN may be sent.
//!
//! A few wrong PINs lock a real token, and a supervisor that restarts a failing process makes these
//! attempts in seconds. So a wrong PIN is never sent again: the next login attempt waits until the
//! source has other content. A locked or expired PIN may be right: it is sent again once the token's
//! flags show a change, or the source is written again.

use std::fmt;
use std::time::SystemTime;

use cryptoki::error::RvError;
use serde::{Deserialize, Serialize};

use super::pin_source::{Pin, PinDigest};

/// CKF_USER_PIN_* of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PinFlags {
    pub(super) final_try: bool,
    pub(super) locked: bool,
    pub(super) to_be_changed: bool,
}

impl PinFlags {
    /// Whether `now` lacks a flag of these that says that the PIN cannot be used.
    pub(super) fn cleared(self, now: Self) -> bool {
        (self.locked && !now.locked) || (self.to_be_changed && !now.to_be_changed)
    }
}

/// Why the token refuses a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PinFault {
    Wrong,
    Locked,
    Expired,
}

impl fmt::Display for PinFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "it refused this PIN",
            Self::Locked => "its PIN was locked",
            Self::Expired => "its PIN had expired",
        })
    }
}

impl PinFault {
    /// `None` when C_Login failed for another reason.
    pub(super) fn from_code(code: Option<RvError>) -> Option<Self> {
        match code? {
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => Some(Self::Wrong),
            RvError::PinLocked => Some(Self::Locked),
            RvError::PinExpired => Some(Self::Expired),
            _ => None,
        }
    }
}

/// A login that the token refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    fault: PinFault,
    pin_digest: PinDigest,
    modified: Option<SystemTime>,
    /// The flags after the attempt, and those that the token has set since.
    flags: PinFlags,
}

impl Refusal {
    /// `flags` are the token's after the attempt.
    pub(super) fn new(fault: PinFault, pin: &Pin, flags: PinFlags) -> Self {
        Self {
            fault,
            pin_digest: pin.digest,
            modified: pin.modified,
            flags,
        }
    }

    /// Whether the token called this PIN wrong.
    pub(super) fn is_wrong(&self, pin: &Pin) -> bool {
        self.fault == PinFault::Wrong && self.pin_digest == pin.digest
    }

    /// Why the token would refuse this PIN again; `None` once something has changed.
    fn would_repeat(&mut self, pin: &Pin, flags: PinFlags) -> Option<PinFault> {
        let cleared = self.flags.cleared(flags);
        self.flags.locked |= flags.locked;
        self.flags.to_be_changed |= flags.to_be_changed;
        let changed = match self.fault {
            PinFault::Wrong => false,
            PinFault::Locked | PinFault::Expired => cleared || self.modified != pin.modified,
        };
        (self.pin_digest == pin.digest && !changed).then_some(self.fault)
    }
}

/// Whether C_Login may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginDecision {
    Attempt,
    /// The last attempt before the token locks.
    FinalAttempt,
    /// The token refused this PIN before and nothing has changed, or it is locked.
    Refused(PinFault),
    /// A wrong PIN would lock the token, and `--final-try` was not given.
    FinalTryNotPermitted,
}

/// `refusal` is the last login that the token refused; `final_try` the operator's permission for the
/// last attempt.
pub(super) fn decide_login(
    flags: PinFlags,
    refusal: Option<&mut Refusal>,
    pin: &Pin,
    final_try: bool,
) -> LoginDecision {
    if let Some(fault) = refusal.and_then(|refusal| refusal.would_repeat(pin, flags)) {
        LoginDecision::Refused(fault)
    } else if flags.locked {
        LoginDecision::Refused(PinFault::Locked)
    } else if !flags.final_try {
        LoginDecision::Attempt
    } else if final_try {
        LoginDecision::FinalAttempt
    } else {
        LoginDecision::FinalTryNotPermitted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::pin_source::SourceMark;
    use super::*;

    use LoginDecision::{Attempt, FinalAttempt, FinalTryNotPermitted, Refused};

    /// A PIN from a file that was written at `second`.
    fn pin(text: &str, second: u64) -> Pin {
        let modified = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let source = SourceMark::Environment { name: "PIN".into() };
        Pin::new(text, Some(modified), source)
    }

    const NO_FLAGS: PinFlags = PinFlags {
        final_try: false,
        locked: false,
        to_be_changed: false,
    };
    const FINAL_TRY: PinFlags = PinFlags {
        final_try: true,
        ..NO_FLAGS
    };
    const LOCKED: PinFlags = PinFlags {
        locked: true,
        ..NO_FLAGS
    };
    const TO_BE_CHANGED: PinFlags = PinFlags {
        to_be_changed: true,
        ..NO_FLAGS
    };

    #[test]
    fn a_wrong_pin_is_never_sent_again() {
        let (a, b) = (pin("a", 1), pin("b", 1));
        let mut wrong = Refusal::new(PinFault::Wrong, &a, NO_FLAGS);
        assert_eq!(decide_login(NO_FLAGS, None, &a, false), Attempt);
        assert_eq!(
            decide_login(FINAL_TRY, None, &a, false),
            FinalTryNotPermitted
        );
        assert_eq!(decide_login(FINAL_TRY, None, &a, true), FinalAttempt);
        for flags in [NO_FLAGS, FINAL_TRY, LOCKED, TO_BE_CHANGED, NO_FLAGS] {
            for pin in [&a, &pin("a", 2)] {
                for final_try in [false, true] {
                    let decision = decide_login(flags, Some(&mut wrong), pin, final_try);
                    assert_eq!(decision, Refused(PinFault::Wrong), "{flags:?}");
                }
            }
        }
        let mut other = |flags, final_try| decide_login(flags, Some(&mut wrong), &b, final_try);
        assert_eq!(other(NO_FLAGS, false), Attempt);
        assert_eq!(other(FINAL_TRY, false), FinalTryNotPermitted);
        assert_eq!(other(FINAL_TRY, true), FinalAttempt);
    }

    #[test]
    fn a_locked_or_expired_pin_is_sent_again_after_a_change() {
        let a = pin("a", 1);
        for fault in [PinFault::Locked, PinFault::Expired] {
            for set in [LOCKED, TO_BE_CHANGED] {
                for flags_after_attempt in [NO_FLAGS, set] {
                    let mut refusal = Refusal::new(fault, &a, flags_after_attempt);
                    let mut decide =
                        |flags, pin: &Pin| decide_login(flags, Some(&mut refusal), pin, false);
                    if flags_after_attempt == NO_FLAGS {
                        assert_eq!(decide(NO_FLAGS, &a), Refused(fault));
                    }
                    assert_eq!(decide(set, &a), Refused(fault), "a flag that appears");
                    assert_eq!(decide(NO_FLAGS, &a), Attempt, "a flag that is cleared");
                }
            }
            let mut refusal = Refusal::new(fault, &a, NO_FLAGS);
            let mut decide = |pin: &Pin| decide_login(NO_FLAGS, Some(&mut refusal), pin, false);
            assert_eq!(decide(&a), Refused(fault));
            assert_eq!(decide(&pin("a", 2)), Attempt, "written again");
            assert_eq!(decide(&pin("b", 1)), Attempt, "another PIN");
        }
        for final_try in [false, true] {
            let decision = decide_login(LOCKED, None, &a, final_try);
            assert_eq!(decision, Refused(PinFault::Locked));
        }
    }

    #[test]
    fn only_some_codes_call_the_pin_wrong() {
        use RvError as E;
        for (code, expected) in [
            (E::PinIncorrect, Some(PinFault::Wrong)),
            (E::PinInvalid, Some(PinFault::Wrong)),
            (E::PinLenRange, Some(PinFault::Wrong)),
            (E::PinLocked, Some(PinFault::Locked)),
            (E::PinExpired, Some(PinFault::Expired)),
            (E::DeviceError, None),
            (E::UserPinNotInitialized, None),
        ] {
            assert_eq!(PinFault::from_code(Some(code)), expected, "{code:?}");
        }
        assert_eq!(PinFault::from_code(None), None);
    }
}
