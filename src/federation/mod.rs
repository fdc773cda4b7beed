//! Trust bundles of other trust domains, from their SPIFFE bundle endpoints (SPIFFE Federation §5): each is
//! fetched, checked, kept for the next start, and published apart from this server's own.

mod config;
mod document;
mod endpoint;
mod follow;
mod kept;
mod metrics;
mod server_identity;

pub use config::{FederationConfig, Profile, RawFederation};
pub use follow::Follower;
pub use metrics::Metrics;
