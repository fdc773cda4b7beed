//! What an upstream CA is asked, and what it answers.

use std::time::Duration;

use crate::x509::{TrustDomain, to_pem};

/// A request for the certificate of an issuing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The same whenever the request is sent again.
    pub id: String,
    pub trust_domain: TrustDomain,
    /// Of the request's subject.
    pub common_name: String,
    /// The PKCS#10 request, in DER.
    pub csr: Vec<u8>,
    /// The lifetime to ask for, where the CA lets the client choose.
    pub ttl: Duration,
    /// The pathLenConstraint to ask for.
    pub path_len: u8,
}

impl Submission {
    pub fn csr_pem(&self) -> String {
        to_pem("CERTIFICATE REQUEST", &self.csr)
    }
}

/// What an upstream CA answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Certificates in any format and order, as they came: they are read and examined elsewhere.
    Issued(Vec<u8>),
    /// The CA decides later.
    Pending {
        /// The CA's own name for the request.
        reference: String,
        /// When the CA wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The CA will not certify this request.
    Refused(String),
    /// The CA does not know the reference.
    Forgotten,
}

impl Answer {
    /// The CA decides later, and does not say when.
    pub(super) fn pending(reference: impl Into<String>) -> Self {
        Self::Pending {
            reference: reference.into(),
            retry_after: None,
        }
    }

    /// For metrics and the log.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Issued(_) => "issued",
            Self::Pending { .. } => "pending",
            Self::Refused(_) => "refused",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The CA gave no answer that says anything about the request: it is asked again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unreachable {
    pub reason: String,
    /// When the CA wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Unreachable {
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// The first `most` characters of what a CA said, in one line without control characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = text.chars().filter(|c| !c.is_control()).take(most);
    shown.collect()
}
