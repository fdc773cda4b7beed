//! A command's failure: the cause, its location, and what to do next; each is printed once.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Exit codes, stable: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success; as a failure it prints nothing, because the reader of the output closed it.
    Done = 0,
    /// Anything without a code of its own.
    Failed = 1,
    /// The command line (clap's code).
    Usage = 2,
    /// The configuration or a client file.
    Config = 3,
    /// The module, a token, the PIN, a key.
    Hsm = 4,
    /// The ledger, or a record that it does not have.
    Ledger = 5,
    /// The server or its policy refused.
    Refused = 6,
    /// The server is unreachable, not ready or busy: the same command may succeed later.
    Unavailable = 7,
}

impl Exit {
    /// Every code with its name in `-o json` errors.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Usage, "usage"),
        (Self::Config, "config"),
        (Self::Hsm, "hsm"),
        (Self::Ledger, "ledger"),
        (Self::Refused, "refused"),
        (Self::Unavailable, "unavailable"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure as the user sees it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    location: Option<String>,
    next_steps: Vec<String>,
}

impl Failure {
    /// `message` is one sentence that starts in lower case.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            location: None,
            next_steps: Vec::new(),
        }
    }

    /// Adds the location: a file and line, a variable, an address.
    #[must_use]
    pub fn at(mut self, location: impl Display) -> Self {
        self.location = Some(location.to_string());
        self
    }

    /// Adds what to do or run next.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next_steps.push(step.into());
        self
    }

    /// A file that cannot be read or written.
    pub fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {action} {}: {error}", path.display());
        Self::new(Exit::Failed, message)
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    pub fn next_steps(&self) -> &[String] {
        &self.next_steps
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let (first, rest) = match error.findings() {
            [first, rest @ ..] => (first, rest),
            [] => return Self::new(Exit::Config, "the configuration cannot be used"),
        };
        let mut failure = Self::new(Exit::Config, first.what()).at(first.place());
        failure
            .next_steps
            .extend(first.to_write().map(ToOwned::to_owned));
        failure
            .next_steps
            .extend(rest.iter().map(|finding| format!("also {finding}")));
        failure
    }
}
