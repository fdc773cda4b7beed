//! What can be wrong with a target, and what an API server has said.

use std::fmt;

/// A configuration that cannot stand: which key, and what is wrong with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    key: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}

/// An API server's refusal, or why there is none, on one line of bounded length.
pub(super) fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => {
            format!("{} {}: {}", status.code, status.reason, status.message)
        }
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(each) = cause {
                let each_text = each.to_string();
                if !text.contains(&each_text) {
                    text = format!("{text}: {each_text}");
                }
                cause = each.source();
            }
            text
        }
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
