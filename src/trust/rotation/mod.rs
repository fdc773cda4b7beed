//! The rules of a rotation, as pure functions: which move comes next, and what holds it back.
//!
//! [`forward`] and [`back`] read where a rotation is and what is known of servers, clusters and
//! certificates, and return the move with every reason against it, by name. Whoever moves a rotation
//! asks them; `tests/rotation` checks with the same functions that no certificate meets a verifier
//! without its root, in every order in which things can happen.

mod evidence;
mod reason;
mod rules;

pub use evidence::{
    Evidence, Preparation, ProxyEvidence, ServerEvidence, TargetEvidence, TargetState,
    WatcherEvidence, WatcherState,
};
pub use reason::{Condition, Reason, Whose};
pub use rules::{Action, NoWayBack, Position, Verdict, back, forward};
