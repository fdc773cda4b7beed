//! The filter of a search for certificates.

use super::{IntentId, IssuerId, Kind, State};
use crate::clock::UnixTime;
use crate::x509::{Serial, TrustDomain};

/// The filter of [`Ledger::certificates`](super::Ledger::certificates). A field that is `None` admits
/// every row; each range includes its start and excludes its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The subject's names or the first of them; with a trailing `*`, a prefix.
    pub subject: Option<String>,
    pub serial: Option<Serial>,
    pub state: Option<State>,
    pub kind: Option<Kind>,
    pub issuer: Option<IssuerId>,
    pub trust_domain: Option<TrustDomain>,
    pub recorded_after: Option<UnixTime>,
    pub recorded_before: Option<UnixTime>,
    /// notAfter.
    pub expires_after: Option<UnixTime>,
    pub expires_before: Option<UnixTime>,
    pub limit: u32,
    /// Only intents with a smaller id: the last id of one page leads to the next page.
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
