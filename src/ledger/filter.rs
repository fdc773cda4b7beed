//! Which certificates are asked for.

use super::{IntentId, IssuerId, Kind, State};
use crate::clock::UnixTime;
use crate::x509::{Serial, TrustDomain};

/// A question to [`Ledger::certificates`](super::Ledger::certificates). What is `None` does not
/// narrow; answers come newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The subject's names, or the first of them; with a trailing `*`, what they begin with.
    pub subject: Option<String>,
    /// The serial number.
    pub serial: Option<Serial>,
    /// What became of it.
    pub state: Option<State>,
    /// What was asked to be signed.
    pub kind: Option<Kind>,
    /// The issuer.
    pub issuer: Option<IssuerId>,
    /// The trust domain of the issuer's authority.
    pub trust_domain: Option<TrustDomain>,
    /// Recorded at this moment or later.
    pub recorded_after: Option<UnixTime>,
    /// Recorded before this moment.
    pub recorded_before: Option<UnixTime>,
    /// Expires (notAfter) at this moment or later.
    pub expires_after: Option<UnixTime>,
    /// Expires (notAfter) before this moment.
    pub expires_before: Option<UnixTime>,
    /// At most so many rows.
    pub limit: u32,
    /// Only what was recorded before this intent: the last id of a page asks for the next page.
    pub before_id: Option<IntentId>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            subject: None,
            serial: None,
            state: None,
            kind: None,
            issuer: None,
            trust_domain: None,
            recorded_after: None,
            recorded_before: None,
            expires_after: None,
            expires_before: None,
            limit: 100,
            before_id: None,
        }
    }
}
