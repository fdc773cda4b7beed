use std::fmt;

/// What a token can do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Before the first login attempt.
    Starting,
    /// Logged in.
    Ready,
    /// The token refused the PIN. No login is attempted until the PIN's source has other content.
    PinRejected,
    /// A wrong PIN would lock the token, and `--final-try` was not given.
    FinalTry,
    /// Any other reason. The login is retried.
    Unavailable(String),
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("the first login is not finished"),
            Self::Ready => f.write_str("ready"),
            Self::PinRejected => f.write_str(
                "it refused the PIN; correct the PIN's source: an unchanged PIN is not sent again, because \
                 repeated attempts lock the token",
            ),
            Self::FinalTry => f.write_str(
                "one more wrong PIN locks it, so no login is attempted; check the PIN, then start with --final-try",
            ),
            Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}
