//! Maps errors to the answers of the APIs.
//!
//! The log has the whole error; the caller gets a code, a sentence that says what to do, and the
//! request id, which is in the log too.

use std::time::Duration;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::authn::AuthnError;
use crate::cluster::NodeAuthorizationError;
use crate::issuance::{Class, IssueError};
use crate::policy::NotAuthorized;
use crate::x509::CsrError;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The credential is missing, was rejected, or cannot be verified.
    #[error(transparent)]
    Authn(#[from] AuthnError),
    /// The certification request is invalid.
    #[error("CSR: {0}")]
    Csr(#[from] CsrError),
    /// A field of the request is invalid.
    #[error("{field}: {why}")]
    Field {
        /// The field of the message.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The request differs from the credential, or from another part of itself.
    #[error("{field} {why}")]
    Mismatch {
        /// The field of the message.
        field: &'static str,
        /// In what it differs.
        why: &'static str,
    },
    #[error("no outcome within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// A node's proxy requested an identity that it may not have.
    #[error("impersonation: {0}")]
    Impersonation(NotAuthorized),
    /// The issuance failed or was denied.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl From<NodeAuthorizationError> for CallError {
    fn from(error: NodeAuthorizationError) -> Self {
        match error {
            NodeAuthorizationError::Refused(why) => Self::Impersonation(why),
            NodeAuthorizationError::Unavailable(why) => Self::Authn(why),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The gRPC code.
    pub code: Code,
    pub http: StatusCode,
    pub message: String,
    /// When to try again, where that is known.
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// The answer to this error. Where the protocol of a mesh requires another code, the module
    /// of that API replaces it.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Authn(AuthnError::Missing) => unauthenticated("a credential is needed"),
            Self::Authn(AuthnError::Rejected { .. }) => {
                unauthenticated("the credential was rejected")
            }
            Self::Authn(AuthnError::Unavailable(_) | AuthnError::Timeout(_)) => {
                unavailable("the credential cannot be verified now; try again")
            }
            Self::Authn(AuthnError::Busy { retry_after, .. }) => Answer {
                retry_after: Some(*retry_after),
                ..answer(
                    Code::ResourceExhausted,
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many credentials are waiting or were rejected; try again later",
                )
            },
            Self::Csr(error) => invalid(format!("csr: {error}")),
            Self::Field { .. } => invalid(self.to_string()),
            Self::Mismatch { .. } => forbidden(&self.to_string()),
            Self::Timeout(_) => unavailable("this takes too long now; try again"),
            Self::Impersonation(_) => unauthenticated(
                "impersonation is not allowed: this caller has no node authorization for it",
            ),
            Self::Issue(error) => issue(error),
        }
    }

    /// As a gRPC status that carries the request id.
    pub fn status(&self, request_id: &str) -> Status {
        self.status_as(None, request_id)
    }

    /// The same under `code`, where the protocol of a mesh requires another one.
    pub(super) fn status_as(&self, code: Option<Code>, request_id: &str) -> Status {
        let answer = self.answer();
        let code = code.unwrap_or(answer.code);
        let message = format!("{} [request {request_id}]", answer.message);
        match answer.retry_after {
            None => Status::new(code, message),
            // google.rpc.RetryInfo, which clients of gRPC read.
            after => {
                let details = ErrorDetails::with_retry_info(after);
                Status::with_error_details(code, message, details)
            }
        }
    }
}

fn issue(error: &IssueError) -> Answer {
    let (code, http) = match error.category().class() {
        Class::Invalid => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
        Class::Denied => (Code::PermissionDenied, StatusCode::FORBIDDEN),
        Class::Busy => (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
        Class::Unavailable => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        Class::Internal => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
    };
    Answer {
        retry_after: error.retry_after(),
        ..answer(code, http, error.public_message())
    }
}

fn unauthenticated(message: &str) -> Answer {
    answer(Code::Unauthenticated, StatusCode::UNAUTHORIZED, message)
}

fn forbidden(message: &str) -> Answer {
    answer(Code::PermissionDenied, StatusCode::FORBIDDEN, message)
}

fn unavailable(message: &str) -> Answer {
    answer(Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message)
}

fn invalid(message: String) -> Answer {
    answer(Code::InvalidArgument, StatusCode::BAD_REQUEST, message)
}

fn answer(code: Code, http: StatusCode, message: impl Into<String>) -> Answer {
    Answer {
        code,
        http,
        message: message.into(),
        retry_after: None,
    }
}
