//! The user PIN's source, and the decision whether it may be sent.
//!
//! A few wrong PINs lock a real token, and a supervisor that restarts a failing process makes these
//! attempts in seconds. So a wrong PIN is never sent again: the next login attempt waits until the
//! source has other content. A locked or expired PIN may be right: it is sent again once the token's
//! flags show a change, or the source is written again.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::digest::sha256;
use cryptoki::error::RvError;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::error::HsmError;

/// Bytes. No token accepts more; a longer file is not a PIN file.
const MAX_PIN: u64 = 1024;

/// The source of a token's user PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// A file; line ends after the PIN are not part of it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A PIN, and a digest by which it is recognized.
pub(super) struct Pin {
    pub(super) secret: AuthPin,
    pub(super) digest: PinDigest,
    /// When its file was written.
    modified: Option<SystemTime>,
}

/// SHA-256 of a PIN as it is sent. It is never logged or stored: a PIN is easily guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PinDigest([u8; 32]);

impl fmt::Debug for PinDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinDigest(..)")
    }
}

impl PinSource {
    /// Reads the source, each time it is called.
    pub(super) fn read(&self) -> Result<Pin, HsmError> {
        let fail = |reason: String| HsmError::Pin {
            location: self.to_string(),
            reason,
        };
        let mut modified = None;
        let text: Zeroizing<String> = match self {
            Self::Env(name) => {
                Zeroizing::new(std::env::var(name).map_err(|error| match error {
                    std::env::VarError::NotPresent => fail("it is not set".into()),
                    // The error's own Display would show the content.
                    std::env::VarError::NotUnicode(_) => fail("it is not UTF-8".into()),
                })?)
            }
            Self::File(path) => {
                let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PIN as usize + 1));
                std::fs::File::open(path)
                    .and_then(|file| {
                        modified = file.metadata()?.modified().ok();
                        file.take(MAX_PIN + 1).read_to_end(&mut bytes)
                    })
                    .map_err(|error| fail(error.to_string()))?;
                if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                    return Err(fail("it is UTF-16: write it as UTF-8".into()));
                }
                let text =
                    std::str::from_utf8(&bytes).map_err(|_| fail("it is not UTF-8".into()))?;
                Zeroizing::new(text.to_owned())
            }
        };
        // Windows tools write a byte order mark before UTF-8.
        let pin = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let pin = pin.trim_end_matches(['\r', '\n']);
        if pin.is_empty() {
            return Err(fail("it is empty".into()));
        }
        if pin.len() as u64 > MAX_PIN {
            return Err(fail(format!("it is longer than {MAX_PIN} bytes")));
        }
        // A wrong PIN costs one of the token's few attempts.
        if pin.contains(char::is_control) {
            return Err(fail(
                "it holds a line break or another control character".into(),
            ));
        }
        Ok(Pin {
            secret: AuthPin::from(pin),
            digest: PinDigest(sha256(pin.as_bytes())),
            modified,
        })
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
        }
    }
}

/// CKF_USER_PIN_* of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PinFlags {
    pub(super) final_try: bool,
    pub(super) locked: bool,
    pub(super) to_be_changed: bool,
}

/// Why the token refuses a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinFault {
    Wrong,
    Locked,
    Expired,
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
        let cleared = (self.flags.locked && !flags.locked)
            || (self.flags.to_be_changed && !flags.to_be_changed);
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
    use super::*;
    use secrecy::ExposeSecret;

    use LoginDecision::{Attempt, FinalAttempt, FinalTryNotPermitted, Refused};

    /// A PIN from a file that was written at `second`.
    fn pin(text: &str, second: u64) -> Pin {
        Pin {
            secret: AuthPin::from(text),
            digest: PinDigest(sha256(text.as_bytes())),
            modified: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second)),
        }
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

    #[test]
    fn a_line_end_is_not_part_of_the_pin_and_debug_does_not_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let source = PinSource::File(path.clone());
        std::fs::write(&path, "s3cret").unwrap();
        let bare = source.read().unwrap();
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let line = source.read().unwrap();
        assert_eq!(
            (bare.digest, line.secret.expose_secret()),
            (line.digest, "s3cret")
        );
        std::fs::write(&path, "\u{feff}s3cret\r\n").unwrap();
        assert_eq!(bare.digest, source.read().unwrap().digest);
        assert_eq!(format!("{:?}", line.digest), "PinDigest(..)");
        for (content, says) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"\xff\xfe1\x002\x00", "UTF-16"),
            (b"\xff1234", "not UTF-8"),
            (b"12\n34\n", "line break"),
            (b"1234\x00", "control character"),
            (b"\xef\xbb\xbf\r\n", "empty"),
            (&[b'1'; 2000], "longer"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = source.read().err().unwrap().to_string();
            assert!(error.contains(says) && error.contains("pin"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(
            source
                .read()
                .err()
                .unwrap()
                .to_string()
                .contains("No such file")
        );
        let unset = PinSource::Env("RB_TEST_NO_SUCH_PIN".into())
            .read()
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            unset,
            "cannot read the PIN from the environment variable RB_TEST_NO_SUCH_PIN: it is not set"
        );
    }
}
