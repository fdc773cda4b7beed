//! What may be certified: profiles, rules, and the decision over them.
//!
//! Whatever no rule allows is denied. The decision depends on its arguments only. Its result is a
//! [`Grant`], which no other module can make.

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
