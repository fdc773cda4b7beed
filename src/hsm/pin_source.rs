//! Where the user PIN is read.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use cryptoki::types::AuthPin;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::HsmError;
use crate::digest::sha256;

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

/// What a PIN's source looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceMark {
    /// The file, and when its contents or its identity last changed (ctime).
    File {
        device: u64,
        inode: u64,
        changed: i64,
        changed_nanoseconds: i64,
    },
    /// A variable shows no change.
    Environment { name: String },
}

/// A PIN, and a digest by which it is recognized.
pub(super) struct Pin {
    pub(super) secret: AuthPin,
    pub(super) digest: PinDigest,
    /// When its file was written.
    pub(super) modified: Option<SystemTime>,
    pub(super) source: SourceMark,
}

/// SHA-256 of a PIN as it is sent. It is never logged or stored: a PIN is easily guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PinDigest([u8; 32]);

impl fmt::Debug for PinDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinDigest(..)")
    }
}

impl Pin {
    pub(super) fn new(pin: &str, modified: Option<SystemTime>, source: SourceMark) -> Self {
        Self {
            secret: AuthPin::from(pin),
            digest: PinDigest(sha256(pin.as_bytes())),
            modified,
            source,
        }
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
        let mut source = None;
        let text: Zeroizing<String> = match self {
            Self::Env(name) => {
                source = Some(SourceMark::Environment { name: name.clone() });
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
                        let metadata = file.metadata()?;
                        modified = metadata.modified().ok();
                        source = Some(SourceMark::File {
                            device: metadata.dev(),
                            inode: metadata.ino(),
                            changed: metadata.ctime(),
                            changed_nanoseconds: metadata.ctime_nsec(),
                        });
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
        let source = source.ok_or_else(|| fail("it is neither".into()))?;
        Ok(Pin::new(pin, modified, source))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use secrecy::ExposeSecret;

    use super::*;

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
