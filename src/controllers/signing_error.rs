//! What becomes of an object, and which causes of issuance end it and which pass.
//!
//! A refusal stands on the object for whoever may read it: it holds a sentence for its maker, never
//! what is inside here. The log keeps the whole cause.

use crate::issuance::IssueError;
use crate::policy::Denial;

/// An object that gets no certificate, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In one word, as conditions have it.
    pub(super) reason: &'static str,
    /// For its maker.
    pub(super) message: String,
    /// Whether it was the request's fault, where the kind of object makes a difference.
    pub(super) denied: bool,
}

impl Refusal {
    /// Something that may not be had.
    pub(super) fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            denied: true,
        }
    }

    /// Something that cannot be done.
    pub(super) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            denied: false,
        }
    }
}

/// Why an object has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SigningError {
    /// It is refused.
    Refused(Refusal),
    /// It is left as it is and tried again; why, for the log.
    Retry(String),
}

impl From<Refusal> for SigningError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<IssueError> for SigningError {
    fn from(error: IssueError) -> Self {
        let refusal = match &error {
            IssueError::Denied(denial) => denied(denial),
            IssueError::KeyReserved => {
                Refusal::denied("KeyNotAllowed", "this key cannot be certified")
            }
            IssueError::TtlTooShort { .. } => {
                Refusal::failed("LifetimeNotAllowed", error.to_string())
            }
            IssueError::IdempotencyKeyConflict(_) => Refusal::failed(
                "ConfigurationChanged",
                "a certificate was already made for this object under another configuration of the \
                 signer; make a new request",
            ),
            IssueError::IdempotencyKeyExpired(_) => Refusal::failed(
                "Superseded",
                "the certificate that was made for this object has ended, or its issuer has \
                 changed; make a new request",
            ),
            // What may pass, and what is wrong here and not with the object.
            IssueError::NoAuthority(_)
            | IssueError::NotReady { .. }
            | IssueError::IssuerExpiring { .. }
            | IssueError::Hsm(_)
            | IssueError::Ledger(_)
            | IssueError::Timeout(_)
            | IssueError::IdempotencyKeyPending(_)
            | IssueError::Build(_)
            | IssueError::Check(_)
            | IssueError::Malformed(_)
            | IssueError::TaskFailed => return Self::Retry(error.to_string()),
        };
        Self::Refused(refusal)
    }
}

fn denied(denial: &Denial) -> Refusal {
    match denial {
        Denial::KeyKind { .. } => Refusal::denied("UnsupportedKeyType", denial.to_string()),
        Denial::TtlTooLong { .. } => Refusal::denied("LifetimeNotAllowed", denial.to_string()),
        Denial::NoNames | Denial::TooManyNames(..) => {
            Refusal::denied("NamesNotAllowed", denial.to_string())
        }
        // Which names exist and who may have them is not told to somebody who may not.
        Denial::CsrNamesDiffer { .. }
        | Denial::ForeignTrustDomain { .. }
        | Denial::NoRule { .. } => Refusal::denied(
            "NamesNotAllowed",
            "policy does not let this requester have these names under this profile",
        ),
        Denial::UnknownProfile(_) => {
            Refusal::failed("Misconfigured", "the signer's profile does not exist")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use std::time::Duration;

    use super::*;
    use crate::x509::TrustDomain;

    #[test]
    fn what_may_pass_leaves_the_object_pending() {
        for error in [
            IssueError::IdempotencyKeyPending("o".to_owned()),
            IssueError::Timeout(Duration::from_secs(1)),
            IssueError::TaskFailed,
            IssueError::Hsm(crate::hsm::SignError::Busy),
        ] {
            assert!(matches!(SigningError::from(error), SigningError::Retry(_)));
        }
        if let Ok(domain) = TrustDomain::parse("td") {
            let error = IssueError::NoAuthority(domain);
            assert!(matches!(SigningError::from(error), SigningError::Retry(_)));
        }
    }

    #[test]
    fn a_refusal_names_no_rule() {
        let denial = Denial::NoRule {
            caller: "spiffe://td/ns/a/sa/b".to_owned(),
            name: "dns:secret.example".to_owned(),
            profile: "inner".to_owned(),
        };
        let SigningError::Refused(refusal) = SigningError::from(IssueError::Denied(denial)) else {
            panic!("it may not pass");
        };
        assert_eq!(refusal.reason, "NamesNotAllowed");
        assert!(!refusal.message.contains("secret") && !refusal.message.contains("inner"));
    }
}
