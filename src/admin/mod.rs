//! HTTP for operators: health, readiness, metrics and status.
//!
//! `/livez`, `/readyz` and `/metrics` are public: they name no workload. Everything else requires an
//! operator's credential, unknown paths included. Beside the port of `[admin]`, listeners with TLS serve
//! it to other callers as well.

mod bundle_targets;
mod callers;
mod config;
mod health_state;
mod limits;
mod metrics;
mod rotations;
mod routes;
mod state;

pub use callers::{AdminCallers, NotAllowed, PortOperators};
pub use config::{Config, RawConfig};
pub use health_state::{HealthState, TokenHealth};
pub use limits::{SOCKETS, limits};
pub use metrics::Metrics;
pub use routes::router;
pub use state::Admin;
