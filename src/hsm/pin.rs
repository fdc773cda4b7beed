//! The user PIN's source, and the decision whether it may be sent.
//!
//! A few wrong PINs lock a real token, and a supervisor that restarts a failing process makes these
//! attempts in seconds. So a PIN that the token refused is never sent again: the next login attempt
//! waits until the source has other content.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use crate::digest::sha256;
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
                    .and_then(|file| file.take(MAX_PIN + 1).read_to_end(&mut bytes))
                    .map_err(|error| fail(error.to_string()))?;
                let text =
                    std::str::from_utf8(&bytes).map_err(|_| fail("it is not UTF-8".into()))?;
                Zeroizing::new(text.to_owned())
            }
        };
        let pin = text.trim_end_matches(['\r', '\n']);
        if pin.is_empty() {
            return Err(fail("it is empty".into()));
        }
        if pin.len() as u64 > MAX_PIN {
            return Err(fail(format!("it is longer than {MAX_PIN} bytes")));
        }
        Ok(Pin {
            secret: AuthPin::from(pin),
            digest: PinDigest(sha256(pin.as_bytes())),
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
}

/// Whether C_Login may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginDecision {
    Attempt,
    /// The last attempt before the token locks.
    FinalAttempt,
    /// The token refused this PIN before, or is locked.
    Rejected,
    /// A wrong PIN would lock the token, and `--final-try` was not given.
    FinalTry,
}

/// `rejected` is the PIN that the token refused before; `final_try` the operator's permission for the
/// last attempt.
pub(super) fn decide_login(
    flags: PinFlags,
    rejected: Option<PinDigest>,
    pin: PinDigest,
    final_try: bool,
) -> LoginDecision {
    if flags.locked || rejected == Some(pin) {
        LoginDecision::Rejected
    } else if !flags.final_try {
        LoginDecision::Attempt
    } else if final_try {
        LoginDecision::FinalAttempt
    } else {
        LoginDecision::FinalTry
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use secrecy::ExposeSecret;

    const A: PinDigest = PinDigest([1; 32]);
    const B: PinDigest = PinDigest([2; 32]);

    #[test]
    fn a_refused_pin_is_never_sent_again() {
        let open = PinFlags::default();
        let last = PinFlags {
            final_try: true,
            locked: false,
        };
        assert_eq!(decide_login(open, None, A, false), LoginDecision::Attempt);
        assert_eq!(
            decide_login(open, Some(A), A, false),
            LoginDecision::Rejected
        );
        assert_eq!(
            decide_login(open, Some(A), A, true),
            LoginDecision::Rejected
        );
        assert_eq!(
            decide_login(open, Some(A), B, false),
            LoginDecision::Attempt
        );
        assert_eq!(decide_login(last, None, A, false), LoginDecision::FinalTry);
        assert_eq!(
            decide_login(last, Some(A), B, false),
            LoginDecision::FinalTry
        );
        assert_eq!(
            decide_login(last, Some(A), B, true),
            LoginDecision::FinalAttempt
        );
        assert_eq!(
            decide_login(last, Some(A), A, true),
            LoginDecision::Rejected
        );
        for final_try in [false, true] {
            let locked = PinFlags {
                final_try: true,
                locked: true,
            };
            assert_eq!(
                decide_login(locked, None, A, final_try),
                LoginDecision::Rejected
            );
        }
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
        assert_eq!(format!("{:?}", line.digest), "PinDigest(..)");
        for (content, says) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"\xff\xfe", "UTF-8"),
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
