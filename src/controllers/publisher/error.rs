//! An API server's errors as text.

use crate::error_chain::error_chain;

/// An API server's refusal, or why there is none, on one line of bounded length.
pub(super) fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => {
            format!("{} {}: {}", status.code, status.reason, status.message)
        }
        other => error_chain(other),
    };
    short(&text)
}

/// Without control characters, and not longer than a line of a log.
pub(super) fn short(text: &str) -> String {
    text.chars()
        .take(400)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
