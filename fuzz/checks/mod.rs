//! Properties that hold for every input. The fuzz targets and `tests/corpora.rs` run the same functions,
//! which panic when a property is violated.

pub mod config;
pub mod csr;
mod der;
pub mod jwks;
pub mod jwt;
pub mod message;
pub mod pem_bundle;
mod scratch;
pub mod spiffe_id;
pub mod token_review;
pub mod watch;

/// The result for an input, which a replay compares with the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Refused,
}

impl Outcome {
    fn of(accepted: bool) -> Self {
        if accepted {
            Self::Accepted
        } else {
            Self::Refused
        }
    }
}

/// An error is logged and may be returned to a caller: it is short, and holds no control character.
fn assert_printable(error: impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty());
    assert!(text.chars().count() <= 1000, "{} characters", text.len());
    assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
}
