//! What must hold for every input, whoever made it up. The fuzz targets and `tests/corpora.rs` run
//! these same functions; one that does not hold panics.

pub mod config;
pub mod csr;
mod der;
pub mod jwt;
pub mod pem_bundle;
mod scratch;
pub mod spiffe_id;

/// What became of an input, so that a replay can tell a corpus of good inputs from noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken for what it is.
    Accepted,
    /// There was an error that says why not.
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

/// An error goes to a log line and perhaps to a caller: short, and nothing in it moves a terminal.
fn assert_sayable(error: impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty());
    assert!(text.chars().count() <= 1000, "{} characters", text.len());
    assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
}
