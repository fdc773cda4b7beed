//! What becomes of an object, and which causes of issuance end it and which pass.
//!
//! A refusal stands on the object for whoever may read it: it holds a sentence for its maker, never
//! what is inside here. The log keeps the whole cause.

use crate::issuance::{Category, IssueError};

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
        let category = error.category();
        let (reason, denied) = match category {
            Category::KeyKind => ("UnsupportedKeyType", true),
            Category::KeyReserved => ("KeyNotAllowed", true),
            Category::LifetimeTooLong => ("LifetimeNotAllowed", true),
            Category::LifetimeTooShort => ("LifetimeNotAllowed", false),
            Category::NameCount | Category::CsrNamesDiffer | Category::NameDenied => {
                ("NamesNotAllowed", true)
            }
            Category::UnknownProfile => ("Misconfigured", false),
            Category::IdempotencyKeyConflict => ("ConfigurationChanged", false),
            Category::IdempotencyKeyExpired => ("Superseded", false),
            // A retry may succeed, or the cause is here and not in the object.
            _ => return Self::Retry(error.to_string()),
        };
        let message = match category {
            Category::UnknownProfile => "the signer's profile does not exist".to_owned(),
            Category::IdempotencyKeyConflict => "a certificate was already made for this object \
                under another configuration of the signer; make a new request"
                .to_owned(),
            Category::IdempotencyKeyExpired => "the certificate that was made for this object has \
                expired, or its issuer has changed; make a new request"
                .to_owned(),
            _ => error.public_message(),
        };
        Self::Refused(Refusal {
            reason,
            message,
            denied,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use std::time::Duration;

    use super::*;
    use crate::policy::Denial;
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
