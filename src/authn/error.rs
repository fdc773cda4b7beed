//! Why a caller is not known, in two messages: the variant decides
//! what the caller is told, its text is for the log.

use std::fmt;

/// Why no [`Caller`](super::Caller) came of a credential.
///
/// The text names issuers, keys and claims but never holds a credential; whatever it quotes of
/// the sender's is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// No credential was presented: UNAUTHENTICATED, 401.
    #[error("no credential was presented")]
    Missing,
    /// The one verifier whose credential this is says no: UNAUTHENTICATED, 401.
    #[error("credential rejected: {reason}")]
    Rejected {
        /// For the log; the caller is told no more than that he was rejected.
        reason: String,
    },
    /// The verifier cannot judge now, through no fault of the caller: UNAVAILABLE, 503.
    #[error("cannot tell who is calling: {0}")]
    Unavailable(String),
    /// The verifier did not answer in time: UNAVAILABLE, 503.
    #[error("cannot tell in time who is calling: {0}")]
    Timeout(String),
}

impl AuthnError {
    /// A rejection for `reason`, which must not hold the credential.
    pub fn rejected(reason: impl fmt::Display) -> Self {
        Self::Rejected {
            reason: reason.to_string(),
        }
    }
}

/// Text of an unknown sender in a log line: escaped, and cut so that it cannot carry a credential.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let cut = self
            .0
            .char_indices()
            .nth(SHOWN)
            .map_or(self.0, |(at, _)| self.0.get(..at).unwrap_or_default());
        write!(
            f,
            "\"{}{}\"",
            cut.escape_default(),
            if cut.len() < self.0.len() { "…" } else { "" }
        )
    }
}
