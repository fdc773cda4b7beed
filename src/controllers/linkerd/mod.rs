//! Linkerd: which roots its proxies hold, an issuer for its identity controller, and that controller's
//! events where this server replaces it.

mod events;
mod gauge;
mod issuer;
mod issuer_acceptance;
mod roots;
mod workloads;

pub use events::{event_permission, start_events};
pub use gauge::{Proxies, register_pods};
pub(super) use issuer::issuer_spec;
pub use issuer::{LINKERD_ISSUER_CALLER, LINKERD_ISSUER_PROFILE};
pub(super) use issuer_acceptance::IssuerAcceptance;
pub use roots::{ControlPlane, control_planes};
pub use workloads::{Counts, Workload};
