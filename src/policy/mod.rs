//! What may be certified: profiles, rules and the pure decision over them.
//!
//! Deny by default. The decision is a function of its arguments and nothing else, and its only
//! result is a [`Grant`], which cannot be made anywhere but here.

mod config;
mod decide;
mod error;
mod node_authorization;
mod pattern;
mod profile;
mod rule;

pub use config::{Config, LINKERD_PROFILE, RawConfig, RawPolicy, RawProfile, RawRule, Usage};
pub use decide::{Grant, Policy, PolicyInput, Scope};
pub use error::Denial;
pub use node_authorization::{NodeAuthorization, NodeProxy, NotAuthorized, PodFacts};
pub use profile::{CsrNames, Profile};
