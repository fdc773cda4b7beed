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
    /// Another process was refused the same PIN: the text says when, and how to override it. A login is
    /// attempted once the PIN's source has changed.
    RefusedEarlier(String),
    /// The PIN is locked. A login is attempted when the token's flags change, or the PIN's source is
    /// written again.
    PinLocked,
    /// The PIN has expired. A login is attempted as for [`PinLocked`](Self::PinLocked).
    PinExpired,
    /// A wrong PIN would lock the token, and `--final-try` was not given.
    FinalTry,
    /// Any other reason. The login is retried.
    Unavailable(String),
}

impl TokenState {
    /// Whether the token and the PIN's source are only watched until somebody changes one of them.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::PinRejected
            | Self::RefusedEarlier(_)
            | Self::PinLocked
            | Self::PinExpired
            | Self::FinalTry => true,
            Self::Starting | Self::Ready | Self::Unavailable(_) => false,
        }
    }
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
            Self::PinLocked => f.write_str(
                "its PIN is locked; the security officer must unlock it; then write the PIN's source again, if the \
                 token does not become ready by itself",
            ),
            Self::PinExpired => f.write_str(
                "its PIN has expired; set a new one with the vendor's tool, and write it to the PIN's source",
            ),
            Self::FinalTry => f.write_str(
                "one more wrong PIN locks it, so no login is attempted; check the PIN, then start with --final-try",
            ),
            Self::RefusedEarlier(reason) | Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

pub(super) fn unavailable(reason: impl ToString) -> TokenState {
    TokenState::Unavailable(reason.to_string())
}
