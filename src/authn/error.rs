//! Why authentication failed. The variant determines the response, the text is for the log.

use std::fmt;
use std::time::Duration;

/// Why a credential was not accepted. The text names issuers, keys and claims but never holds a
/// credential. What it quotes from the sender is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// UNAUTHENTICATED, 401.
    #[error("no credential was presented")]
    Missing,
    /// The responsible verifier rejects the credential: UNAUTHENTICATED, 401.
    #[error("credential rejected: {reason}")]
    Rejected {
        /// For the log. The caller learns only that the credential was rejected.
        reason: String,
    },
    /// The verifier cannot decide now, through no fault of the caller: UNAVAILABLE, 503.
    #[error("authentication is unavailable: {0}")]
    Unavailable(String),
    /// So many credentials wait or were refused that this one is not looked at: RESOURCE_EXHAUSTED, 429.
    #[error("authentication has to wait: {why}")]
    Busy { why: String, retry_after: Duration },
    /// UNAVAILABLE, 503.
    #[error("authentication timed out: {0}")]
    Timeout(String),
}

impl AuthnError {
    /// `reason` must not hold the credential.
    pub fn rejected(reason: impl fmt::Display) -> Self {
        Self::Rejected {
            reason: reason.to_string(),
        }
    }
}

/// Untrusted text for a log line: escaped, and cut so that it cannot hold a credential.
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
