//! Why a request to an API server failed, and the one text for it.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use kube::core::Status;

use crate::cluster::error::ClusterUnavailable;
use crate::cluster::text::one_line;

/// Why a request to an API server failed. No variant holds a credential or the text of an answer that
/// could not be read.
#[derive(Debug)]
pub enum ApiError {
    /// There is no client for the cluster, or the connection failed.
    Unreachable(String),
    Timeout(Duration),
    /// The API server answered with an error.
    Status(Box<Status>),
    /// The answer is longer than so many bytes.
    TooLarge(usize),
    /// A list goes on after so many objects.
    Endless(usize),
    /// More objects than may be stored.
    TooMany(usize),
    /// It went past a limit a short time ago.
    Distrusted(String),
    /// The answer is not what was requested. The text of a parser's error may quote the answer, so only
    /// its category is here.
    Unreadable(&'static str),
    /// The request could not be built.
    Request(String),
}

impl ApiError {
    /// An answer with an error's status; its body describes it.
    pub(super) fn refusal(code: StatusCode, body: &[u8]) -> Self {
        let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
            let reason = code.canonical_reason().unwrap_or_default();
            Status::failure("", reason)
        });
        Self::Status(Box::new(status.with_code(code.as_u16())))
    }

    pub(in crate::cluster) fn from_json(error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        Self::Unreadable(match error.classify() {
            Category::Io | Category::Eof => "it ends early",
            Category::Syntax => "it is not JSON",
            Category::Data => "it has a field of another type",
        })
    }

    /// Whether an honest API server never does that.
    pub(in crate::cluster) fn is_without_bounds(&self) -> bool {
        matches!(
            self,
            Self::TooLarge(_) | Self::Endless(_) | Self::TooMany(_)
        )
    }

    /// The HTTP status code, where the API server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            _ => None,
        }
    }
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the API server is unreachable: {why}"),
            Self::Timeout(time) => {
                let ms = time.as_millis();
                write!(f, "the API server did not answer within {ms} ms")
            }
            Self::Status(status) => {
                write!(f, "the API server answers {}", status.code)?;
                let text = match status.message.as_str() {
                    "" => hint(status.code),
                    message => message,
                };
                for (before, part) in [(" ", status.reason.as_str()), (": ", text)] {
                    if !part.is_empty() {
                        write!(f, "{before}{}", one_line(part, 400))?;
                    }
                }
                Ok(())
            }
            Self::TooLarge(bytes) => {
                write!(f, "the API server's answer is longer than {bytes} bytes")
            }
            Self::Endless(count) => {
                write!(f, "the API server's list has no end after {count} objects")
            }
            Self::TooMany(count) => {
                write!(
                    f,
                    "the API server has more objects than may be stored: {count}"
                )
            }
            Self::Distrusted(why) => f.write_str(why),
            Self::Unreadable(why) => write!(f, "the API server's answer cannot be read: {why}"),
            Self::Request(why) => write!(f, "the request cannot be built: {why}"),
        }
    }
}

impl From<ClusterUnavailable> for ApiError {
    fn from(error: ClusterUnavailable) -> Self {
        Self::Unreachable(error.why)
    }
}

impl From<kube::core::request::Error> for ApiError {
    fn from(error: kube::core::request::Error) -> Self {
        match error {
            // Its cause may quote the object.
            kube::core::request::Error::SerializeBody(_) => {
                Self::Request("the object cannot be serialized".to_owned())
            }
            other => Self::Request(other.to_string()),
        }
    }
}

fn hint(code: u16) -> &'static str {
    match code {
        401 => "it does not accept this server's credential",
        403 => "this server's account lacks the permission (RBAC)",
        429 => "it is overloaded",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_bounded_line() {
        let status = Status::failure(&"no\n".repeat(400), "Forbidden").with_code(403);
        let text = ApiError::Status(Box::new(status)).to_string();
        assert!(
            text.starts_with("the API server answers 403 Forbidden: no no "),
            "{text}"
        );
        assert!(text.len() < 500 && !text.contains('\n'));
        let bare = ApiError::refusal(StatusCode::FORBIDDEN, b"").to_string();
        assert!(bare.ends_with("lacks the permission (RBAC)"), "{bare}");
    }
}
