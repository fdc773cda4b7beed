//! What is known of the PINs that were sent to a token. A login thread that hangs in the module is replaced, and its
//! call may still reach the token, so the next thread must know of it: each wrong PIN counts.

use super::pin::Refusal;
use super::pin_source::PinDigest;

#[derive(Debug)]
pub(super) struct Logins {
    pub(super) refusal: Option<Refusal>,
    /// The operator's permission for the last attempt before the token locks.
    pub(super) final_try: bool,
    /// Sent, and C_Login has not returned.
    unanswered: Vec<PinDigest>,
    accepted: Option<PinDigest>,
}

impl Logins {
    pub(super) fn new(final_try: bool) -> Self {
        Self {
            refusal: None,
            final_try,
            unanswered: Vec::new(),
            accepted: None,
        }
    }

    /// Whether C_Login has not returned for this PIN, which the token has never accepted: it may be wrong.
    pub(super) fn is_unanswered(&self, pin: PinDigest) -> bool {
        self.accepted != Some(pin) && self.unanswered.contains(&pin)
    }

    /// To be called before C_Login.
    pub(super) fn sent(&mut self, pin: PinDigest) {
        self.unanswered.push(pin);
    }

    /// To be called when C_Login has returned.
    pub(super) fn answered(&mut self, pin: PinDigest) {
        if let Some(place) = self.unanswered.iter().position(|sent| *sent == pin) {
            self.unanswered.swap_remove(place);
        }
    }

    pub(super) fn accepted(&mut self, pin: PinDigest) {
        self.accepted = Some(pin);
        self.refusal = None;
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.accepted = None;
        self.refusal = Some(refusal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::pin::{PinFault, PinFlags};
    use super::super::pin_source::{Pin, SourceMark};
    use super::*;

    fn pin(text: &str) -> Pin {
        let source = SourceMark::Environment { name: "PIN".into() };
        Pin::new(text, Some(SystemTime::UNIX_EPOCH), source)
    }

    #[test]
    fn a_pin_without_an_answer_is_sent_again_only_if_it_was_accepted_before() {
        let (right, other) = (pin("right"), pin("other"));
        let [right_digest, other_digest] = [&right, &other].map(|pin| pin.digest);
        let mut logins = Logins::new(false);
        assert!(!logins.is_unanswered(right_digest));
        logins.sent(right_digest);
        assert!(logins.is_unanswered(right_digest));
        assert!(!logins.is_unanswered(other_digest));
        logins.answered(right_digest);
        logins.accepted(right_digest);
        logins.sent(right_digest);
        assert!(!logins.is_unanswered(right_digest), "it was accepted");
        // Somebody has changed the token's PIN meanwhile.
        logins.refused(Refusal::new(PinFault::Wrong, &right, PinFlags::default()));
        assert!(logins.is_unanswered(right_digest), "it was refused since");
        logins.sent(right_digest);
        logins.answered(right_digest);
        assert!(logins.is_unanswered(right_digest), "one of two");
        logins.answered(right_digest);
        assert!(!logins.is_unanswered(right_digest));
    }
}
