//! The classification of issuance errors. Metric labels, gRPC codes, conditions of Kubernetes
//! objects and exit codes are looked up by [`Category`], never by the error itself.

use std::time::Duration;

use super::error::IssueError;
use crate::hsm::SignError;
use crate::ledger::LedgerError;
use crate::policy::Denial;

/// A queue that was full has room after one to three seconds; not all must come back at once.
const HSM_BUSY_RETRY: Duration = Duration::from_secs(1);

/// The values of [`Category::metric_label`].
pub(super) const METRIC_LABELS: [&str; 8] = [
    "denied",
    "key_taken",
    "origin",
    "not_ready",
    "limited",
    "hsm",
    "ledger",
    "internal",
];

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    UnknownProfile,
    KeyKind,
    KeyReserved,
    LifetimeTooLong,
    LifetimeTooShort,
    /// No name, or too many.
    NameCount,
    CsrNamesDiffer,
    NameDenied,
    IdempotencyKeyConflict,
    IdempotencyKeyExpired,
    IdempotencyKeyPending,
    /// More requests than `[admission]` allows.
    Limited,
    NoIssuer,
    IssuerExpiring,
    HsmBusy,
    HsmUnavailable,
    HsmRefused,
    Timeout,
    LedgerUnavailable,
    LedgerRefused,
    Internal,
}

/// Who can do something about an error, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The caller: the request is wrong.
    Invalid,
    /// The operator, by another policy.
    Denied,
    /// The caller: retry later, when fewer requests are waiting.
    Busy,
    /// The caller: retry later.
    Unavailable,
    /// The operator: something is wrong here, and a retry does not help.
    Internal,
}

impl Category {
    pub fn class(self) -> Class {
        self.row().0
    }

    /// The label `cause` of `certificates_refused`.
    pub(super) fn metric_label(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (Class, &'static str) {
        match self {
            Self::UnknownProfile
            | Self::KeyKind
            | Self::LifetimeTooLong
            | Self::LifetimeTooShort
            | Self::NameCount => (Class::Invalid, "denied"),
            Self::KeyReserved => (Class::Invalid, "key_taken"),
            Self::CsrNamesDiffer | Self::NameDenied => (Class::Denied, "denied"),
            Self::IdempotencyKeyConflict | Self::IdempotencyKeyExpired => {
                (Class::Invalid, "origin")
            }
            Self::IdempotencyKeyPending => (Class::Unavailable, "origin"),
            Self::NoIssuer | Self::IssuerExpiring => (Class::Unavailable, "not_ready"),
            Self::Limited => (Class::Busy, "limited"),
            Self::HsmBusy => (Class::Busy, "hsm"),
            Self::HsmUnavailable | Self::Timeout => (Class::Unavailable, "hsm"),
            Self::HsmRefused => (Class::Internal, "hsm"),
            Self::LedgerUnavailable => (Class::Unavailable, "ledger"),
            Self::LedgerRefused => (Class::Internal, "ledger"),
            Self::Internal => (Class::Internal, "internal"),
        }
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    // Without randomness nothing is issued anyway.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}

impl IssueError {
    pub fn category(&self) -> Category {
        match self {
            Self::Denied(denial) => match denial {
                Denial::UnknownProfile(_) | Denial::OnlyForCas(_) | Denial::NotForCas(_) => {
                    Category::UnknownProfile
                }
                Denial::TtlTooLong { .. } => Category::LifetimeTooLong,
                Denial::NoNames | Denial::TooManyNames { .. } | Denial::SeveralIds(_) => {
                    Category::NameCount
                }
                Denial::KeyKind { .. } => Category::KeyKind,
                Denial::CsrNamesDiffer { .. } => Category::CsrNamesDiffer,
                Denial::ForeignTrustDomain { .. } | Denial::NoRule { .. } => Category::NameDenied,
            },
            Self::Limited(_) => Category::Limited,
            Self::NameRuledOut { .. } => Category::NameDenied,
            Self::KeyReserved => Category::KeyReserved,
            Self::TtlTooShort { .. } => Category::LifetimeTooShort,
            Self::NoAuthority(_) | Self::NotReady { .. } => Category::NoIssuer,
            Self::KeyUnavailable { .. } => Category::HsmUnavailable,
            Self::IssuerExpiring { .. } => Category::IssuerExpiring,
            Self::Hsm(error) => match error {
                SignError::Busy | SignError::ShareInUse(_) | SignError::TooLate { .. } => {
                    Category::HsmBusy
                }
                SignError::Expired => Category::Timeout,
                SignError::Unavailable(_) | SignError::Unknown(_) => Category::HsmUnavailable,
                SignError::Refused(_) => Category::HsmRefused,
            },
            Self::Timeout(_) => Category::Timeout,
            // A retry may succeed: the store recovers, the epoch is registered again, or another
            // issuer becomes active.
            Self::Ledger(
                LedgerError::Unavailable { .. }
                | LedgerError::UnknownEpoch { .. }
                | LedgerError::IssuerNotActive { .. }
                | LedgerError::AlreadyConcluded { .. },
            ) => Category::LedgerUnavailable,
            Self::Ledger(_) => Category::LedgerRefused,
            Self::IdempotencyKeyConflict(_) => Category::IdempotencyKeyConflict,
            Self::IdempotencyKeyExpired(_) => Category::IdempotencyKeyExpired,
            Self::IdempotencyKeyPending(_) => Category::IdempotencyKeyPending,
            Self::Build(_) | Self::Check(_) | Self::Malformed(_) | Self::TaskFailed => {
                Category::Internal
            }
        }
    }

    fn is_of_another_trust_domain(&self) -> bool {
        matches!(self, Self::Denied(Denial::ForeignTrustDomain { .. }))
    }

    /// When a request that nothing is wrong with may be sent again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(limited) => Some(limited.retry_after),
            // Once the queue is as long as what can be signed in time.
            Self::Hsm(SignError::TooLate { wait, limit }) => {
                let over = wait.saturating_sub(*limit).max(HSM_BUSY_RETRY);
                Some(over + over.mul_f64(random_fraction()))
            }
            _ if self.category() == Category::HsmBusy => {
                Some(HSM_BUSY_RETRY + HSM_BUSY_RETRY.mul_f64(2.0 * random_fraction()))
            }
            _ => None,
        }
    }

    /// What the caller may read. It names no rule and nothing internal.
    pub fn public_message(&self) -> String {
        let text = match self.category() {
            Category::UnknownProfile
            | Category::KeyKind
            | Category::LifetimeTooLong
            | Category::LifetimeTooShort
            | Category::NameCount => {
                return match self {
                    Self::Denied(denial) => denial.to_string(),
                    other => other.to_string(),
                };
            }
            Category::KeyReserved => "csr: this key cannot be certified",
            Category::CsrNamesDiffer => "the CSR names something else than is certified",
            Category::NameDenied if self.is_of_another_trust_domain() => {
                "policy does not let this caller have this name: it is not in the trust domain of this \
                 caller, and no rule can permit that"
            }
            // Names and their rules are not disclosed to a caller that may not have them.
            Category::NameDenied => {
                "policy does not let this caller have this name under this profile"
            }
            Category::IdempotencyKeyConflict => "idempotency_key: it was used for another request",
            Category::IdempotencyKeyExpired => {
                "idempotency_key: its certificate has expired or its issuer has changed; use \
                 another key"
            }
            Category::IdempotencyKeyPending => "the same request is in progress; try again",
            Category::NoIssuer => "this trust domain has no active issuer yet; try again",
            Category::IssuerExpiring => {
                "the issuing CA is about to expire; its operator must renew it"
            }
            Category::Limited => "this caller or its cluster requests too much; try again later",
            Category::HsmBusy => "too many requests are waiting for the HSM; try again",
            Category::HsmUnavailable => "the HSM is unavailable now; try again",
            Category::Timeout => "signing takes too long now; try again",
            Category::LedgerUnavailable => "the ledger is unavailable now; try again",
            Category::HsmRefused | Category::LedgerRefused | Category::Internal => {
                "an internal error; the server's log has its cause under this request id"
            }
        };
        text.to_owned()
    }
}
