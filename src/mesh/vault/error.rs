//! Errors as Vault's clients read them.

use axum::response::{IntoResponse as _, Json, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::authn::AuthnError;
use crate::issuance::{Category, Class, IssueError};
use crate::mesh::status::CallError;
use crate::x509::CsrError;

/// Why a call is not answered with data. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error("no mount or login is at the path")]
    NoHandler { path: String },
    #[error("the mount has no such path")]
    UnsupportedPath,
    #[error("the path has no such operation")]
    UnsupportedOperation,
    /// What the caller sent cannot be done; the text is for the caller too.
    #[error("{0}")]
    Invalid(String),
    /// The text is for the log.
    #[error("permission denied: {0}")]
    Denied(String),
    /// A login's credential is wrong. The caller learns no more.
    #[error("login refused: {why}")]
    Login { public: &'static str, why: String },
    #[error("the body is larger than the listener's max_message_bytes")]
    TooLarge,
    #[error("the request did not arrive whole: {0}")]
    Incomplete(String),
    #[error("too many sessions are renewed or revoked: try again later")]
    TooManySessions,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl VaultError {
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// The answer. Its text carries the id under which the log has the reason, but for a login's:
    /// cert-manager writes that text into its issuer's condition, and tries again at once when it changes.
    pub(super) fn answer(&self, request_id: &str, is_login: bool) -> Response {
        let (status, text, retry_after) = match self {
            Self::NoHandler { path } => {
                let text = format!("no handler for route \"{path}\". route entry not found.");
                return response(StatusCode::NOT_FOUND, Some(text), None);
            }
            Self::UnsupportedPath => {
                return response(
                    StatusCode::NOT_FOUND,
                    Some(listed("unsupported path")),
                    None,
                );
            }
            Self::UnsupportedOperation => {
                let text = listed("unsupported operation");
                return response(StatusCode::METHOD_NOT_ALLOWED, Some(text), None);
            }
            Self::Invalid(text) => (StatusCode::BAD_REQUEST, text.clone(), None),
            Self::Denied(_) => {
                return response(
                    StatusCode::FORBIDDEN,
                    Some("permission denied".to_owned()),
                    None,
                );
            }
            Self::Login { public, .. } => (StatusCode::BAD_REQUEST, (*public).to_owned(), None),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, self.to_string(), None),
            Self::Incomplete(_) => (
                StatusCode::BAD_REQUEST,
                "the request did not arrive whole".to_owned(),
                None,
            ),
            Self::TooManySessions => (StatusCode::SERVICE_UNAVAILABLE, self.to_string(), None),
            Self::Call(error) => {
                let answer = error.answer();
                let status = match error {
                    // What policy refuses is a bad request to Vault's clients, and 403 a bad token.
                    CallError::Issue(error) if error.category().class() == Class::Denied => {
                        StatusCode::BAD_REQUEST
                    }
                    CallError::Issue(error) if error.category() == Category::HsmBusy => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                    CallError::Mismatch { .. } => StatusCode::BAD_REQUEST,
                    CallError::Authn(AuthnError::Missing | AuthnError::Rejected { .. }) => {
                        let text = Some("permission denied".to_owned());
                        return response(StatusCode::FORBIDDEN, text, None);
                    }
                    _ => answer.http,
                };
                (status, answer.message, answer.retry_after)
            }
        };
        let text = match is_login {
            true => text,
            false => format!("{text} [request {request_id}]"),
        };
        response(status, Some(text), retry_after)
    }
}

impl From<IssueError> for VaultError {
    fn from(error: IssueError) -> Self {
        Self::Call(error.into())
    }
}

impl From<AuthnError> for VaultError {
    fn from(error: AuthnError) -> Self {
        Self::Call(error.into())
    }
}

impl From<CsrError> for VaultError {
    fn from(error: CsrError) -> Self {
        Self::Call(error.into())
    }
}

/// As Go's multierror writes a list of one.
fn listed(text: &str) -> String {
    format!("1 error occurred:\n\t* {text}\n\n")
}

fn response(
    status: StatusCode,
    text: Option<String>,
    retry_after: Option<std::time::Duration>,
) -> Response {
    let errors: Vec<String> = text.into_iter().collect();
    let mut response = (status, Json(json!({ "errors": errors }))).into_response();
    if let Some(after) = retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
