//! The PIN that the token refused, remembered for other processes and the next start.
//!
//! A supervisor that restarts a failing server, and a person who tries one command after another, would
//! send the same wrong PIN until the token locks. So a file says what the PIN's source looked like when
//! the token refused it; nothing in it helps to guess the PIN.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pin::{PinFault, PinFlags};
use super::pin_source::SourceMark;
use super::token_info::TokenInfo;
use crate::clock::UnixTime;
use crate::file_access::denied;
use crate::private_file;

/// An environment variable shows no change, so its PIN is sent again, once in this time.
const ENVIRONMENT_PAUSE: Duration = Duration::from_secs(15 * 60);
/// A longer file is none of these.
const MAX_BYTES: u64 = 16 * 1024;

/// A token's file in the state directory; without a directory nothing is remembered.
#[derive(Debug)]
pub(super) struct RefusedPin {
    path: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    /// Of the token.
    serial: String,
    fault: PinFault,
    /// The token's, after the attempt.
    flags: PinFlags,
    source: SourceMark,
    /// Seconds since 1970.
    at: i64,
}

impl RefusedPin {
    /// `token` is its name in `[hsm.tokens.NAME]`.
    pub(super) fn new(directory: Option<&Path>, token: &str) -> Self {
        let name = format!("refused-pin.{}.json", private_file::name_for(token));
        Self {
            path: directory.map(|directory| directory.join(name)),
        }
    }

    /// Why the token would refuse the PIN from this source again.
    pub(super) fn reason(
        &self,
        token: &TokenInfo,
        source: &SourceMark,
        now: UnixTime,
    ) -> Option<String> {
        let path = self.path.as_ref()?;
        let refused = read(path)?;
        let at = UnixTime::from_secs(refused.at);
        let unlocked = refused.flags.cleared(token.pin);
        if refused.serial != token.serial || refused.source != *source || unlocked {
            return None;
        }
        let how = match source {
            SourceMark::File { .. } => "write the right PIN to its file".to_owned(),
            SourceMark::Environment { .. } => {
                let next = at.plus(ENVIRONMENT_PAUSE);
                // A clock that was set back must not end all attempts.
                if now >= next || now < at {
                    return None;
                }
                format!("no attempt is made before {next}")
            }
        };
        Some(format!(
            "{} at {at}, and its source is unchanged: it is not sent again, because repeated attempts lock the token; \
             {how}; if it is right now, remove {}",
            refused.fault,
            path.display()
        ))
    }

    /// To be called when the token has refused the PIN.
    pub(super) fn remember(
        &self,
        token: &TokenInfo,
        (fault, flags): (PinFault, PinFlags),
        source: &SourceMark,
        now: UnixTime,
    ) {
        let Some(path) = &self.path else { return };
        let refused = Refused {
            serial: token.serial.clone(),
            fault,
            flags,
            source: source.clone(),
            at: now.secs(),
        };
        let written = serde_json::to_vec(&refused)
            .map_err(io::Error::from)
            .and_then(|text| private_file::replace(path, &text));
        if let Err(error) = written {
            tracing::error!(
                path = %path.display(),
                error = format!("{error}{}", denied(path, &error)),
                "that the token refused the PIN cannot be recorded: the next process sends it again"
            );
        }
    }

    /// To be called when the token has accepted a PIN.
    pub(super) fn forget(&self) {
        let Some(path) = &self.path else { return };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// A file that cannot be read prevents no attempt: it would be the last word on a PIN that may be right.
fn read(path: &Path) -> Option<Refused> {
    let length = fs::metadata(path).ok()?.len();
    if length > MAX_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token(serial: &str) -> TokenInfo {
        TokenInfo {
            serial: serial.to_owned(),
            ..TokenInfo::default()
        }
    }

    fn file(inode: u64, changed: i64) -> SourceMark {
        SourceMark::File {
            device: 1,
            inode,
            changed,
            changed_nanoseconds: 5,
        }
    }

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn a_file_that_is_unchanged_prevents_an_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let refused = RefusedPin::new(Some(&state), "main");
        let wrong = (PinFault::Wrong, PinFlags::default());
        assert_eq!(refused.reason(&token("s"), &file(1, 7), NOW), None);
        refused.remember(&token("s"), wrong, &file(1, 7), NOW);
        let much_later = NOW.plus(Duration::from_secs(9_000_000));
        for now in [NOW, much_later, NOW.minus(Duration::from_secs(9))] {
            let reason = refused.reason(&token("s"), &file(1, 7), now).unwrap();
            assert!(reason.contains("refused-pin.main.json"), "{reason}");
            assert!(reason.contains("2027-01-15T08:00:00Z"), "{reason}");
        }
        // Another file, another content, another token, another name of a token.
        assert_eq!(refused.reason(&token("s"), &file(2, 7), NOW), None);
        assert_eq!(refused.reason(&token("s"), &file(1, 8), NOW), None);
        assert_eq!(refused.reason(&token("t"), &file(1, 7), NOW), None);
        let other = RefusedPin::new(Some(&state), "other");
        assert_eq!(other.reason(&token("s"), &file(1, 7), NOW), None);
        let text = fs::read_to_string(state.join("refused-pin.main.json")).unwrap();
        for secret in ["digest", "sha", "pin_digest"] {
            assert!(!text.contains(secret), "{text}");
        }
        refused.forget();
        assert_eq!(refused.reason(&token("s"), &file(1, 7), NOW), None);
        refused.forget();
        // Without a directory nothing is remembered.
        let none = RefusedPin::new(None, "main");
        none.remember(&token("s"), wrong, &file(1, 7), NOW);
        assert_eq!(none.reason(&token("s"), &file(1, 7), NOW), None);
    }

    #[test]
    fn a_pin_from_the_environment_is_tried_once_in_a_quarter_of_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let refused = RefusedPin::new(Some(dir.path()), "main");
        let source = |name: &str| SourceMark::Environment {
            name: name.to_owned(),
        };
        let wrong = (PinFault::Wrong, PinFlags::default());
        refused.remember(&token("s"), wrong, &source("PIN"), NOW);
        let after = |seconds| {
            let now = NOW.plus(Duration::from_secs(seconds));
            refused.reason(&token("s"), &source("PIN"), now)
        };
        assert!(after(0).is_some() && after(899).unwrap().contains("08:15:00Z"));
        assert_eq!(after(900), None);
        let before = NOW.minus(Duration::from_secs(1));
        assert_eq!(refused.reason(&token("s"), &source("PIN"), before), None);
        assert_eq!(refused.reason(&token("s"), &source("OTHER"), NOW), None);
    }

    #[test]
    fn a_locked_pin_is_sent_again_when_the_flag_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let refused = RefusedPin::new(Some(dir.path()), "main");
        let locked = PinFlags {
            locked: true,
            ..PinFlags::default()
        };
        let still = TokenInfo {
            pin: locked,
            ..token("s")
        };
        refused.remember(&still, (PinFault::Locked, locked), &file(1, 7), NOW);
        let reason = refused.reason(&still, &file(1, 7), NOW).unwrap();
        assert!(reason.contains("locked"), "{reason}");
        assert_eq!(refused.reason(&token("s"), &file(1, 7), NOW), None);
    }

    #[test]
    fn a_file_that_says_nothing_prevents_no_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let refused = RefusedPin::new(Some(dir.path()), "main");
        let long = vec![b' '; 20_000];
        for text in [&b""[..], b"{", b"{\"serial\": \"s\"}", &long] {
            fs::write(dir.path().join("refused-pin.main.json"), text).unwrap();
            assert_eq!(refused.reason(&token("s"), &file(1, 7), NOW), None);
        }
    }
}
