//! Why a rotation does not start or move.

use crate::issuance::CeremonyError;
use crate::ledger::LedgerError;
use crate::trust::rotation::{NoWayBack, Reason};
use crate::x509::TrustDomain;

#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("no rotation of {0} is open")]
    NoneOpen(TrustDomain),
    /// Each condition that is not met.
    #[error("{}", listed(.0))]
    Held(Vec<Reason>),
    /// These conditions cannot be forced.
    #[error("it cannot be forced: {}", listed(.0))]
    NotForced(Vec<Reason>),
    #[error("{0}")]
    CannotStart(String),
    #[error("it cannot go back: {0}")]
    NoWayBack(#[from] NoWayBack),
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn listed(reasons: &[Reason]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = reasons
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    match reasons.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
