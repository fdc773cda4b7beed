//! What may be certified: profiles, rules and the pure decision over them.
//!
//! Deny by default. The decision is a function of its arguments and nothing else, and its only
//! result is a [`Grant`], which cannot be made anywhere but here.

mod config;
mod decide;
mod delegation;
mod error;
mod pattern;
mod profile;
mod rule;

pub use config::{
    Config, ConfigError, LINKERD_PROFILE, RawConfig, RawPolicy, RawProfile, RawRule, Usage,
};
pub use decide::{Applicant, Ask, Grant, Policy, Scope};
pub use delegation::{Delegation, NodeProxy, NotDelegated, PodFact};
pub use error::Denial;
pub use profile::{CsrNames, Profile};
