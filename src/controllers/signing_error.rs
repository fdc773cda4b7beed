//! Which failures of issuance are an object's final answer, and which are retried.
//!
//! Everybody who may read the object reads a refusal: it holds a sentence for the object's creator and
//! nothing of this server's state. The log holds the whole cause.

use crate::issuance::{Category, IssueError};

/// The final answer to an object that gets no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A condition's reason, in one word.
    pub(super) reason: &'static str,
    /// For the object's creator.
    pub(super) message: String,
    /// Denied rather than failed, where the kind of object has both conditions.
    pub(super) denied: bool,
}

impl Refusal {
    pub(super) fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            denied: true,
        }
    }

    pub(super) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            denied: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SigningError {
    Refused(Refusal),
    /// The object is retried; the reason is for the log.
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
